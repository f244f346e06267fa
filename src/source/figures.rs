//! A head as figures: what an upload writes to its text file and the service tells at `/metrics`.

use crate::metrics::catalogue::{
    Metric, STREAM_AS_OF, STREAM_ENTRIES, STREAM_FILTER_WRONG, STREAM_FULL_DUMP, STREAM_FULL_DUMP_BYTES,
    STREAM_GAP, STREAM_OWES_DUMP, STREAM_REFUSED, STREAM_SEQ, STREAM_SET_VERSION, STREAM_TX,
};
use crate::metrics::{figure, timestamp};
use crate::source::owed;
use crate::stream::Head;

/// Each figure of a head; `None`: it is not known, or there is none.
pub fn of_head(head: &Head) -> [(&'static Metric, Option<f64>); 11] {
    let is = |is: bool| Some(f64::from(u8::from(is)));
    let gone = head.floor.as_ref().map_or(0, |floor| floor.seq.0);
    let full = head.dumps.iter().rev().map(|there| &there.dump).find(|dump| dump.full);
    [
        (&STREAM_AS_OF, timestamp(head.as_of)),
        (&STREAM_SEQ, Some(figure(head.last_seq.0))),
        (&STREAM_TX, Some(figure(head.last_tx.0))),
        (&STREAM_ENTRIES, Some(figure(head.last_seq.0.saturating_sub(gone)))),
        (&STREAM_SET_VERSION, Some(figure(head.table_set.version))),
        (&STREAM_REFUSED, is(head.refused.is_some())),
        (&STREAM_GAP, is(head.gap.as_ref().is_some_and(|gap| gap.lost))),
        (&STREAM_FILTER_WRONG, is(head.gap.is_some())),
        (&STREAM_OWES_DUMP, is(owed::owes(head))),
        (&STREAM_FULL_DUMP, full.and_then(|dump| timestamp(dump.taken_at))),
        (&STREAM_FULL_DUMP_BYTES, full.map(|dump| figure(dump.bytes))),
    ]
}
