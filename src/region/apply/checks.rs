//! What a pass looks at before it changes anything: the region's list, definitions, packets, and the plan of it all.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Report;
use super::pass::{Region, Start, point};
use crate::binlog::name::TableName;
use crate::error::chain;
use crate::region::definitions::{self, Drifted, Missing};
use crate::region::plan::{NewQuarantine, Plan, PlannedSegment, Point};
use crate::region::quarantine;
use crate::region::scope::left_out;
use crate::region::segments::Fetched;
use crate::stream::{Definition, Entry};
use crate::{Error, Kind, Result};

/// How often every definition is compared by a run that has a pass at each segment. The tables that entries touch are
/// compared before each of them.
const COMPARE_ALL: Duration = Duration::from_secs(10);

impl Region<'_> {
    /// Every table that the entries touch must be in the region's list, or in the stream's set and so be passed over:
    /// found before anything is downloaded.
    pub(super) fn check_tables(&self, entries: &[Entry]) -> Result<()> {
        for (entry, segment) in entries.iter().filter_map(|entry| Some((entry, entry.segment()?))) {
            if let Some(table) = segment.tables.iter().find(|table| !self.scope.knows(table)) {
                let message = format!(
                    "gate: refuse entry {}: table {table} is not in this region's list, nor in the stream's set",
                    entry.seq.0
                );
                return Err(Error::new(Kind::Gate, message).hint(format!(
                    "if this region is to have {table}, add it to `tables` in [region] of {}; if not, somebody has \
                     written to the bucket",
                    self.config.path.display()
                )));
            }
        }
        Ok(())
    }

    /// What the region lacks, and which of its tables are not what they were left as.
    pub(super) async fn missing(
        &mut self,
        start: &Start,
        entries: &[Entry],
    ) -> Result<(Missing, Vec<Drifted>)> {
        let schemas =
            definitions::missing_schemas(&mut self.control, &start.head, &self.region.tables).await?;
        let at = start.position.as_ref().map_or(0, |at| at.last_tx.0);
        let fresh = start.position.is_none() && start.executed.last() == 0;
        let known = |since: &dyn Fn(&Definition) -> bool, all: &[Definition]| -> Vec<Definition> {
            let is_there =
                |definition: &&Definition| since(definition) && !start.ahead.contains_key(&definition.table);
            all.iter().filter(is_there).cloned().collect()
        };
        if !fresh {
            let mut definitions = known(&|definition| definition.since_tx.0 <= at, &start.head.definitions);
            let is_recent = self.compared.is_some_and(|compared| compared.elapsed() < COMPARE_ALL);
            if is_recent && entries.iter().all(|entry| entry.segment().is_some()) {
                let touched = entries.iter().filter_map(Entry::segment).flat_map(|segment| &segment.tables);
                let touched: BTreeSet<&TableName> = touched.collect();
                definitions.retain(|definition| touched.contains(&definition.table));
            } else {
                self.compared = Some(Instant::now());
            }
            let drifted = self.compare(definitions).await?;
            return Ok((Missing { schemas, tables: Vec::new() }, drifted));
        }
        // The first entry keeps the definitions as they were when the stream began; the head has the newest.
        let at_start = |definition: &Definition| definition.since_tx.0 == 0;
        let mut definitions = match entries.iter().find_map(Entry::segment) {
            Some(first) => known(&at_start, &first.definitions),
            None => Vec::new(),
        };
        if definitions.is_empty() {
            definitions = known(&at_start, &start.head.definitions);
        }
        let tables =
            definitions::compare_at_start(&mut self.control, &definitions, &self.region.tables).await?;
        Ok((Missing { schemas, tables }, Vec::new()))
    }

    /// The tables that differ, without those in quarantine.
    pub(super) async fn compare(&mut self, mut definitions: Vec<Definition>) -> Result<Vec<Drifted>> {
        definitions.retain(|definition| !self.is_passed_over(&definition.table));
        definitions::compare(&mut self.control, &definitions, &self.region.tables).await
    }

    pub(super) fn plan(
        &self,
        start: &Start,
        entries: &[Entry],
        missing: &Missing,
        drifted: &[Drifted],
    ) -> Plan {
        let from = start.position.as_ref().map_or(Point::default(), point);
        let last_tx = entries.iter().rev().find_map(Entry::segment).map(|segment| segment.last_tx.0);
        let to = entries
            .last()
            .map_or(from, |entry| Point { seq: entry.seq.0, last_tx: last_tx.unwrap_or(from.last_tx) });
        let segments = entries.iter().filter_map(|entry| {
            let segment = entry.segment()?;
            Some(PlannedSegment {
                seq: entry.seq.0,
                key: segment.key.to_string(),
                size: segment.size,
                first_tx: segment.first_tx.0,
                last_tx: segment.last_tx.0,
                count: segment.count,
                tables: segment.tables.clone(),
            })
        });
        Plan {
            stream: self.config.stream.clone(),
            uuid: start.head.stream,
            region: self.region.name.clone(),
            store: self.store.url(),
            from,
            to,
            more_entries: start.head.last_seq.0 - to.seq,
            as_of: start.head.as_of,
            create_position: start.position.is_none(),
            create_schemas: missing.schemas.clone(),
            create_tables: missing.tables.clone(),
            passed_over: self.quarantined.iter().map(|known| known.table.clone()).collect(),
            quarantine: drifted
                .iter()
                .map(|drifted| NewQuarantine { table: drifted.table.clone(), error: chain(&drifted.error) })
                .collect(),
            let_in: Vec::new(),
            left_out: left_out(self.tables(), &start.head),
            sets: entries
                .iter()
                .filter_map(|entry| Some(self.planned_set(entry.seq, entry.tables()?)))
                .collect(),
            checks: entries
                .iter()
                .filter_map(|entry| Some(self.planned_check(entry.seq, entry.check()?)))
                .collect(),
            segments: segments.collect(),
        }
    }

    /// What can be known to fail in a segment, before anything of it runs.
    pub(super) async fn check(
        &mut self,
        start: &Start,
        next: &Fetched,
        to_come: &Missing,
        report: &mut Report,
    ) -> Result<()> {
        let (scan, executed, set) = (&next.scan, &start.executed, self.region.tables.clone());
        let turns = quarantine::turns(&self.quarantined, &set, scan, executed, u64::MAX);
        let passing = &turns.passing;
        let limit = self.server.as_ref().map_or(u64::MAX, |server| server.max_allowed_packet);
        definitions::check_packet(scan, executed, passing, &set, limit)?;
        let first_change = scan.changes_of_defaults(executed).first().copied().unwrap_or(u64::MAX);
        let (range, schemas) = (0..=first_change - 1, &to_come.schemas);
        definitions::check_schema_defaults(
            &mut self.control,
            scan,
            executed,
            &turns.statements,
            range,
            schemas,
        )
        .await?;
        let drifted =
            definitions::check_maps(&mut self.control, scan, executed, passing, &set, &to_come.tables)
                .await?;
        // From the first of its changes on: what lies before this segment may have run since `start`.
        self.isolate_drifted(drifted, 0, false, &start.head.definitions, report).await
    }
}
