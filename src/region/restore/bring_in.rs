//! The end of a restore, with no pass running: the last of the catching up, the swap, and what it leaves behind.

use mysql_async::Conn;

use super::catch_up::{CatchUp, Caught};
use super::engine::{BLOCKED, Engine, INLINE, INLINE_PATIENCE, LONGEST_BLOCKED, Standing};
use super::journal::{self, Restore, Why};
use super::shape::Shape;
use super::swap::{self, Place, Swapped};
use super::{bootstrap, choose, load, needs, server};
use crate::Result;
use crate::mysql::{self, Ghost};
use crate::region::apply::pass::Region;
use crate::region::guard::{Dress, Scope};
use crate::region::position::{self, Position};
use crate::region::quarantine::{Quarantined, Reason};
use crate::stream::Entry;

impl Engine<'_> {
    /// Brings what is loaded to where the region is, and swaps.
    pub(super) async fn bring_in(
        &mut self,
        region: &mut Region<'_>,
        standing: &Standing,
        restore: &mut Restore,
    ) -> Result<()> {
        if restore.at > standing.at && !matches!(restore.why, Why::Resync | Why::Bootstrap) {
            // The region comes there by itself.
            return Ok(());
        }
        let shapes = self.shapes(restore)?;
        let mut index = self.index()?;
        let dump = (restore.entry, restore.at);
        let entries = choose::entries_behind(&mut index, &*self.store, dump, standing.at).await?;
        let catch_up = self.catch_up(region, restore, &shapes).await?;
        let rest = entries.iter().filter_map(Entry::segment).filter(|segment| {
            segment.last_tx > restore.until
                && segment.tables.iter().any(|table| restore.tables.contains(table))
        });
        if rest.fold(0u64, |sum, segment| sum.saturating_add(segment.size)) > INLINE {
            self.spawn(restore, None, shapes, catch_up, standing.at);
            return Ok(());
        }
        let catch_up = CatchUp { patience: INLINE_PATIENCE, ..catch_up };
        match catch_up.run(&entries, restore.until, standing.at).await? {
            Caught::UpTo(n) if n < standing.at.0 => return Ok(()),
            Caught::UpTo(_) => {}
            Caught::Ddl { n, table } => {
                return self.does_not_fit(region.control(), restore, n, &table.to_string()).await;
            }
        }
        let known = self.head().map(|head| head.definitions.clone()).unwrap_or_default();
        let scope = self.scope();
        let found = swap::hindrances(region.control(), &scope, &known, &shapes).await?;
        if !found.is_empty() {
            let error = swap::refused(&restore.tables, &found);
            let pause = self.back_off(restore);
            restore.message = Some(self.with_next_try(restore, &error, pause));
            journal::update(region.control(), restore).await?;
            tracing::warn!(restore = restore.id, "{}", restore.message.as_deref().unwrap_or_default());
            return Ok(());
        }
        if restore.why == Why::Bootstrap && self.has_another_list(restore).await? {
            restore.again();
            restore.message = Some("the region's list of tables has changed: it begins again".to_owned());
            return journal::update(region.control(), restore).await;
        }
        if restore.why == Why::Bootstrap {
            // Loading takes its time, and somebody may have begun to use this server meanwhile.
            bootstrap::check_empty(region.control(), &scope, |table| restore.tables.contains(table)).await?;
        }
        if !swap::lacking_checks(region.control(), &shapes).await?.is_empty() {
            // Everything else is there: the tables wait for no more than these.
            self.hold(region, standing, restore, &shapes).await?;
            let catch_up = CatchUp { patience: server::PATIENCE, ..catch_up };
            self.spawn(restore, None, shapes, catch_up, standing.at);
            return Ok(());
        }
        let mut definer = self.definer(region).await?;
        for shape in &shapes {
            load::compare(&mut definer, shape, true).await?;
        }
        region.verify_lock().await?;
        let scope = Scope::new(self.config, self.head(), restore.entry)?;
        let dress = Dress::of(&mut definer, self.config, scope).await?;
        match swap::rename(&mut definer, &self.config.stream, dress.as_ref(), restore, &shapes).await? {
            Swapped::Done => self.finish(region, &mut definer, restore, &shapes).await,
            Swapped::Blocked(who) => {
                let pause = self.pause(restore.id, BLOCKED, LONGEST_BLOCKED);
                let names = restore.names();
                tracing::warn!(
                    restore = restore.id,
                    "{names} cannot be swapped yet: {who}; next try in {} s",
                    pause.as_secs()
                );
                Ok(())
            }
        }
    }

    /// Whether the region lets in other tables of the dump now than those that were loaded.
    async fn has_another_list(&mut self, restore: &Restore) -> Result<bool> {
        let entry = self.index()?.entry(restore.entry, &*self.store).await?;
        let tables = entry.dump().into_iter().flat_map(|dump| &dump.tables);
        Ok(!tables.filter(|table| self.region.tables.names(table)).eq(&restore.tables))
    }

    /// Behind the RENAME.
    pub(super) async fn finish(
        &mut self,
        region: &mut Region<'_>,
        definer: &mut Conn,
        restore: &mut Restore,
        shapes: &[Shape],
    ) -> Result<()> {
        let place = self.place(region, restore).await?;
        let (name, now) = (&self.config.stream, self.clock.now());
        let strays = match &place {
            Some(_) => self.strays(definer, restore).await?,
            None => Vec::new(),
        };
        swap::finish(definer, name, restore, shapes, place.as_ref(), &strays, now).await?;
        self.pauses.remove(&restore.id);
        self.has_swapped = true;
        region.guard_is_due();
        needs::fulfil(self, region.control(), restore).await?;
        tracing::info!(restore = restore.id, rows = restore.rows, "restored {}", restore.names());
        Ok(())
    }

    /// Ghost tables that are here when a dump takes the place of a piece of history. No dump holds a ghost, so
    /// nobody knows which of their rows are missing: in quarantine, they never become the table (see
    /// `quarantine::passing`).
    async fn strays(&self, definer: &mut Conn, restore: &Restore) -> Result<Vec<Quarantined>> {
        let there = mysql::ghosts(definer, &self.config.mysql.to_string(), &self.region.tables).await?;
        let why = "it was here when a dump took the place of the history before, and may lack rows of that";
        let stray = |ghost: Ghost| {
            let since = restore.at.0 + 1;
            Quarantined::new(ghost.table, Reason::Tied, since, why.to_owned(), self.clock.now())
        };
        Ok(there.into_iter().map(stray).collect())
    }

    /// The position that a restore brings with it.
    async fn place(&mut self, region: &mut Region<'_>, restore: &Restore) -> Result<Option<Place>> {
        let name = &self.config.stream;
        let before = position::read(region.control(), name).await?;
        let brings = match (restore.why, &before) {
            (Why::Resync, Some(before)) => before.seq < restore.entry,
            (Why::Bootstrap, None) => true,
            _ => false,
        };
        if !brings {
            return Ok(None);
        }
        self.refresh_head().await?;
        let (mut index, now) = (self.index()?, self.clock.now());
        let position = bootstrap::position(
            &mut index,
            &*self.store,
            restore,
            self.store.url(),
            &self.region.tables,
            now,
        )
        .await?;
        Ok(Some(match before {
            None => Place::First(Box::new(position)),
            Some(before) => {
                let after = Position { as_of: before.as_of.max(position.as_of), ..position };
                Place::Next { before: Box::new(before), after: Box::new(after) }
            }
        }))
    }
}
