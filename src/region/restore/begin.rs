//! A restore begins: the dump that it uses, the shadows, and the task that fills them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mysql_async::Conn;
use tokio::sync::watch;

use super::catch_up::CatchUp;
use super::choose::{self, Wanted};
use super::engine::{Engine, INLINE_PATIENCE, Running, Standing};
use super::journal::{self, Planned, Restore, State, Why};
use super::load::Loader;
use super::shape::Shape;
use super::work::{Work, manifest};
use super::{needs, server, swap};
use crate::binlog::name::{TableName, TablePattern};
use crate::region::apply::pass::Region;
use crate::region::quarantine::{self, Quarantined, Reason};
use crate::region::scope::Scope;
use crate::stream::{Entry, Manifest, Seq, StreamTx};
use crate::{Error, Kind, Result, failpoint, mysql};

impl Engine<'_> {
    /// Looks for a dump, and begins to load it.
    pub(super) async fn begin(
        &mut self,
        region: &mut Region<'_>,
        standing: &Standing,
        quarantined: &[Quarantined],
        restore: &mut Restore,
    ) -> Result<()> {
        let mut index = self.index()?;
        let since = quarantined.iter().filter(|table| restore.tables.contains(&table.table));
        let since = since.map(|table| StreamTx(table.since_tx.saturating_sub(1))).min();
        let for_all = matches!(restore.why, Why::Mandatory | Why::Resync | Why::Bootstrap);
        let wanted = Wanted {
            tables: &restore.tables,
            list: &self.region.tables,
            entry: restore.entry,
            seq: standing.seq,
            at: standing.at,
            since,
            for_all,
            // The position comes with it: it has to be all there is.
            full: matches!(restore.why, Why::Resync | Why::Bootstrap),
        };
        let scope = Scope::of(&self.region.tables, index.head());
        let Some(chosen) = choose::choose(&mut index, &*self.store, &wanted).await? else {
            let defined =
                |table: &TableName| index.head().definition(table).map(|known| &*known.create_table);
            // No dump mends that, and the source is asked for none.
            let unfit = quarantine::unfit(&scope, &restore.tables, defined);
            return match unfit.is_empty() {
                true => needs::ask(self, region.control(), restore).await,
                false => self.cannot(region.control(), restore, &unfit).await,
            };
        };
        // A newer one than it was begun for may hold others.
        restore.tables = chosen.tables;
        if restore.why != Why::Bootstrap {
            let own = self.own(region, standing, quarantined, restore).await?;
            restore.tables.retain(|table| !own.contains(table));
        }
        let chosen = chosen.reference;
        let manifest = manifest(&*self.store, &chosen).await?;
        let defined = |table: &TableName| manifest.table(table).map(|dumped| &*dumped.create_table);
        let unfit = quarantine::unfit(&scope, &restore.tables, defined);
        if !unfit.is_empty() && !for_all {
            return self.cannot(region.control(), restore, &unfit).await;
        }
        self.leave_out(region, standing, restore, &unfit).await?;
        if restore.tables.is_empty() && !matches!(restore.why, Why::Resync | Why::Bootstrap) {
            let message = "nothing of this dump is for this region".to_owned();
            restore.supersede(message, self.clock.now());
            self.must_sweep = true;
            return journal::update(region.control(), restore).await;
        }
        restore.plan = planned(&manifest, &restore.tables)?;
        let shapes = self.shapes(restore)?;
        let known = self.head().map(|head| head.definitions.clone()).unwrap_or_default();
        let conn = region.control();
        let found = swap::hindrances(conn, &scope, &known, &shapes).await?;
        if !found.is_empty() {
            return Err(swap::refused(&restore.tables, &found));
        }
        restore.state = State::Loading;
        restore.entry = chosen.seq;
        restore.dump = Some(chosen.dump.id.clone());
        (restore.at, restore.rows, restore.message) = (chosen.dump.at, 0, None);
        restore.rows_total = manifest.rows_of(&restore.tables);
        restore.started_at = Some(self.clock.now());
        journal::update(region.control(), restore).await?;
        failpoint::hit("restore.begun");
        tracing::info!(
            restore = restore.id,
            dump = %chosen.dump.id,
            at = chosen.dump.at.0,
            "restoring {} ({} rows)",
            restore.names(),
            restore.rows_total
        );
        let catch_up = self.catch_up(region, restore, &shapes).await?;
        self.spawn(restore, Some(manifest), shapes, catch_up, standing.at);
        Ok(())
    }

    /// Tables of a restore that hold somebody's rows and that nobody has named. A dump may be ahead of the region, and
    /// have tables that only come in on the way there: what is here under such a name is looked at now.
    async fn own(
        &self,
        region: &mut Region<'_>,
        standing: &Standing,
        quarantined: &[Quarantined],
        restore: &Restore,
    ) -> Result<BTreeSet<TableName>> {
        let coming = self.coming(standing.seq).await?;
        let met = region.own_tables(restore.tables.intersection(&coming)).await?;
        let row = |table: &TableName| Quarantined::own(table, standing.at.0 + 1, self.clock.now());
        let is_known = |table: &TableName| {
            quarantined.iter().any(|known| known.table == *table && known.reason == Reason::Own)
        };
        let new: Vec<Quarantined> = met.iter().filter(|table| !is_known(table)).map(row).collect();
        if !new.is_empty() {
            region.verify_lock().await?;
            quarantine::add(region.control(), &self.config.stream, &new).await?;
        }
        // Whoever asks for tables is refused those that were known to be somebody's and were not named: see `wish`.
        let is_asked = |known: &&Quarantined| restore.why == Why::Asked && known.at <= restore.wanted_at;
        let held: Vec<Quarantined> =
            quarantined.iter().filter(|known| !is_asked(known)).chain(&new).cloned().collect();
        needs::own_tables(region.control(), &held).await
    }

    /// Tables that come into the stream's set behind this entry, and were not in it there.
    async fn coming(&self, seq: Seq) -> Result<BTreeSet<TableName>> {
        let mut index = self.index()?;
        let head = index.head();
        let (floor, last) = (head.floor.map_or(Seq::ZERO, |floor| floor.seq), head.last_seq);
        let (mut coming, mut gone) = (BTreeSet::new(), Vec::new());
        if head.set_changed.as_ref().is_none_or(|changed| changed.seq <= seq) {
            return Ok(coming);
        }
        let mut from = seq.max(floor);
        while from < last {
            let entries = index.entries_after(from, &*self.store).await?;
            let Some(newest) = entries.last() else { break };
            from = newest.seq;
            for change in entries.iter().filter_map(Entry::tables) {
                let names = |pattern: &TablePattern, table: &TableName| match pattern {
                    TablePattern::Table(name) => name == table,
                    TablePattern::Schema(schema) => table.schema == *schema,
                };
                gone.extend(change.removed.iter().cloned());
                let added = change.added.iter().map(|added| &added.table);
                coming.extend(added.filter(|table| !gone.iter().any(|gone| names(gone, table))).cloned());
            }
        }
        Ok(coming)
    }

    /// Tables that refer to some that are not let in cannot be made here. Whoever reads the message can mend that.
    async fn cannot(
        &mut self,
        conn: &mut Conn,
        restore: &mut Restore,
        unfit: &BTreeMap<TableName, TableName>,
    ) -> Result<()> {
        let message = quarantine::why_unfit(unfit);
        if restore.message.as_ref() != Some(&message) {
            tracing::warn!(restore = restore.id, "restore {}: {message}", restore.names());
        }
        restore.message = Some(message);
        self.back_off(restore);
        journal::update(conn, restore).await
    }

    /// The same in a dump for every region: those tables stay out of it, and in quarantine.
    async fn leave_out(
        &self,
        region: &mut Region<'_>,
        standing: &Standing,
        restore: &mut Restore,
        unfit: &BTreeMap<TableName, TableName>,
    ) -> Result<()> {
        if unfit.is_empty() || restore.why == Why::Bootstrap {
            return Ok(());
        }
        restore.tables.retain(|table| !unfit.contains_key(table));
        let held = unfit.iter().map(|(table, parent)| {
            let error = quarantine::why_unfit(&BTreeMap::from([(table.clone(), parent.clone())]));
            Quarantined::new(table.clone(), Reason::Tied, standing.at.0 + 1, error, self.clock.now())
        });
        region.verify_lock().await?;
        quarantine::add(region.control(), &self.config.stream, &held.collect::<Vec<_>>()).await
    }

    /// A CHECK with a name of its own can be in one table of a schema only: the table gives it up, and what the stream
    /// brings for it from now on waits for the restore.
    pub(super) async fn hold(
        &self,
        region: &mut Region<'_>,
        standing: &Standing,
        restore: &Restore,
        shapes: &[Shape],
    ) -> Result<()> {
        let checks = swap::checks_in_the_way(region.control(), shapes).await?;
        if checks.is_empty() {
            return Ok(());
        }
        let next = standing.at.0 + 1;
        let held: Vec<Quarantined> = restore
            .tables
            .iter()
            .map(|table| {
                let error = format!("restore {} has taken its CHECK constraints away", restore.id);
                Quarantined::new(table.clone(), Reason::Held, next, error, self.clock.now())
            })
            .collect();
        region.verify_lock().await?;
        quarantine::add(region.control(), &self.config.stream, &held).await?;
        failpoint::hit("restore.held");
        let mut definer = self.definer(region).await?;
        swap::drop_checks(&mut definer, &checks).await
    }

    pub(super) async fn definer(&self, region: &mut Region<'_>) -> Result<Conn> {
        let server = mysql::server(region.control()).await?;
        server::definer(&self.config.mysql, &self.config.stream, server.version, "swap", INLINE_PATIENCE)
            .await
    }

    pub(super) async fn catch_up(
        &self,
        region: &mut Region<'_>,
        restore: &Restore,
        shapes: &[Shape],
    ) -> Result<CatchUp> {
        let Some(head) = self.head() else {
            return Err(Error::new(Kind::Store, "read the stream's head: there is none yet"));
        };
        let id = restore.id;
        Ok(CatchUp {
            config: self.config.mysql.clone(),
            server: mysql::server(region.control()).await?,
            stream: head.stream,
            store: self.store.clone(),
            spool_dir: self.config.files.spool_dir.clone(),
            scope: Scope::of(&self.region.tables, head),
            targets: shapes.iter().map(|shape| (shape.table.clone(), shape.shadow.clone())).collect(),
            lock: server::lock_name(&self.config.stream, "catch-up"),
            patience: server::PATIENCE,
            record: Arc::new(move |n| journal::until(id, n)),
            stop: self.stop.clone(),
        })
    }

    pub(super) fn loader(&self, rows: Arc<AtomicU64>, is_beside: bool) -> Loader {
        Loader {
            stream: self.config.stream.clone(),
            config: self.config.mysql.clone(),
            store: self.store.clone(),
            spool_dir: self.config.files.spool_dir.clone(),
            connections: self.config.apply.workers,
            tables: self.region.tables.clone(),
            rows,
            pace: self.pace.clone(),
            is_beside,
        }
    }

    /// Starts the task: loads, unless that is done, and follows the stream for a while.
    pub(super) fn spawn(
        &mut self,
        restore: &Restore,
        manifest: Option<Manifest>,
        shapes: Vec<Shape>,
        catch_up: CatchUp,
        at: StreamTx,
    ) {
        let rows = Arc::new(AtomicU64::new(0));
        let (sender, at) = watch::channel(at);
        let work = Work {
            restore: restore.clone(),
            loader: self.loader(rows.clone(), matches!(restore.why, Why::Quarantine | Why::Asked)),
            catch_up,
            shapes,
            manifest,
            at,
            now: self.clock.now(),
        };
        let changed = self.changed.clone();
        let task = tokio::spawn(async move {
            let ended = work.run().await;
            changed.notify_one();
            ended
        });
        self.running = Some(Running { id: restore.id, task, rows, at: sender });
    }
}
/// What is to be done to each table. A table that the region shall lose is one that the manifest says is gone.
fn planned(manifest: &Manifest, tables: &BTreeSet<TableName>) -> Result<Vec<Planned>> {
    let of = |table: &TableName| {
        let create_table = manifest.table(table).map(|dumped| dumped.create_table.clone());
        if create_table.is_none() && !manifest.absent.contains(table) {
            return Err(Error::new(
                Kind::Corrupt,
                format!("read the manifest of dump {}: it says nothing about {table}", manifest.id),
            ));
        }
        Ok(Planned { table: table.clone(), create_table })
    };
    tables.iter().map(of).collect()
}
