//! Every metric. docs/metrics.md is made from this, and a test holds the alert rules and the dashboard to it.
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>: base units, `_total` for counters, `_timestamp_seconds`
//! for points in time, `_info` for what is in the labels.

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Type,
    /// What it says, in one line.
    pub help: &'static str,
    /// All of its labels, in the order in which their values are given. An empty value is an absent label.
    pub labels: &'static [&'static str],
    pub place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Counter,
    Gauge,
}

impl Type {
    pub fn name(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
        }
    }
}

/// Where it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the text file of a source's or a region's runs.
    File,
    /// At `/metrics` of the service.
    Service,
    Both,
}

impl Metric {
    pub fn is_at_service(&self) -> bool {
        self.place != Place::File
    }

    pub fn is_in_file(&self) -> bool {
        self.place != Place::Service
    }
}

macro_rules! metrics {
    ($($constant:ident = $name:literal $kind:ident $place:ident [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: Metric = Metric {
                name: $name,
                kind: Type::$kind,
                help: $help,
                labels: &[$($label),*],
                place: Place::$place,
            };
        )*
        /// All of them, in the order in which they are told.
        pub static ALL: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    BUILD_INFO = "tablecast_build_info" Gauge Both ["stream", "role", "region", "version", "format"]
        "1; the program's version, and the newest stream format that it reads.";

    // Runs.
    LAST_RUN = "tablecast_last_run_timestamp_seconds" Gauge File ["stream", "role", "region", "command"]
        "When a run of the command last ended; while one follows, when this was written.";
    LAST_SUCCESS = "tablecast_last_success_timestamp_seconds" Gauge File ["stream", "role", "region", "command"]
        "When the command last did all that there was to do: it ended with 0 or 3, or, following, looked and failed in nothing.";
    LAST_PROGRESS = "tablecast_last_progress_timestamp_seconds" Gauge File ["stream", "role", "region", "command"]
        "When the command last got on: an entry or a segment was done, or a look found nothing more to do.";
    LAST_RUN_DURATION = "tablecast_last_run_duration_seconds" Gauge File ["stream", "role", "region", "command"]
        "How long the run took that ended last.";
    LAST_EXIT_CODE = "tablecast_last_run_exit_code" Gauge File ["stream", "role", "region", "command"]
        "What the last run ended with; of one that follows 0 once it has done all there was to do, 14 while it is paused.";
    RUNS = "tablecast_runs_total" Counter File ["stream", "role", "region", "command", "code"]
        "Runs that ended, by exit code.";
    ERRORS = "tablecast_errors_total" Counter File ["stream", "role", "region", "command", "kind"]
        "Failures by kind, those after which the run went on by itself included.";
    RETRIES = "tablecast_retries_total" Counter File ["stream", "role", "region", "command"]
        "How often a run tried again by itself.";

    // The stream.
    STREAM_READABLE = "tablecast_stream_readable" Gauge Service ["stream"]
        "1 if the service could read the stream's head for this answer, else 0.";
    STREAM_AS_OF = "tablecast_stream_as_of_timestamp_seconds" Gauge Both ["stream"]
        "The source's time up to which the stream is complete.";
    STREAM_LAG = "tablecast_stream_lag_seconds" Gauge Both ["stream"]
        "How long ago that was when this was written; time() minus the timestamp goes on growing.";
    STREAM_SEQ = "tablecast_stream_last_seq" Gauge Both ["stream"]
        "The stream's last entry.";
    STREAM_TX = "tablecast_stream_last_tx" Gauge Both ["stream"]
        "The stream's last transaction.";
    STREAM_ENTRIES = "tablecast_stream_entries" Gauge Both ["stream"]
        "Entries that are kept: prune has removed the others.";
    STREAM_SET_VERSION = "tablecast_stream_table_set_version" Gauge Both ["stream"]
        "How often the table set has changed, counted from 1.";
    STREAM_REFUSED = "tablecast_stream_refused" Gauge Both ["stream"]
        "1 if upload cannot come past a transaction (exit code 15), else 0.";
    STREAM_GAP = "tablecast_stream_gap" Gauge Both ["stream"]
        "1 if the source's filters may have kept something from the stream, which goes on behind a resync, else 0.";
    STREAM_FILTER_WRONG = "tablecast_stream_filter_wrong" Gauge Both ["stream"]
        "1 if upload has found that the source's filters leave out tables of the set, lost or not yet, else 0.";
    STREAM_OWES_DUMP = "tablecast_stream_owes_dump" Gauge Both ["stream"]
        "1 if regions wait for a dump because tables came into the set that hold rows, else 0.";
    STREAM_PAUSED = "tablecast_stream_paused" Gauge Service ["stream"]
        "1 while somebody wants nothing shipped, else 0.";
    STREAM_PAUSED_SINCE = "tablecast_stream_paused_since_timestamp_seconds" Gauge Service ["stream"]
        "Since when that is.";
    STREAM_FULL_DUMP = "tablecast_stream_full_dump_timestamp_seconds" Gauge Both ["stream"]
        "When the newest full dump was taken: what a new region begins with.";
    STREAM_FULL_DUMP_BYTES = "tablecast_stream_full_dump_bytes" Gauge Both ["stream"]
        "The size of the newest full dump, compressed.";
    SOURCE_BACKLOG = "tablecast_source_backlog_transactions" Gauge File ["stream"]
        "Transactions of the source that upload had yet to read when it looked last, those that do not travel included.";

    // What upload has done.
    UPLOAD_TRANSACTIONS = "tablecast_upload_transactions_total" Counter File ["stream"]
        "Transactions shipped.";
    UPLOAD_FOREIGN = "tablecast_upload_foreign_transactions_total" Counter File ["stream"]
        "Transactions read that do not travel.";
    UPLOAD_SEGMENTS = "tablecast_upload_segments_total" Counter File ["stream"]
        "Segments shipped.";
    UPLOAD_BYTES = "tablecast_upload_bytes_total" Counter File ["stream"]
        "Bytes of segments shipped, compressed.";
    UPLOAD_RAW_BYTES = "tablecast_upload_raw_bytes_total" Counter File ["stream"]
        "The same before compression.";
    UPLOAD_CHECKS = "tablecast_upload_checks_total" Counter File ["stream"]
        "Checks of rows put into the stream.";
    UPLOAD_CHECKED_ROWS = "tablecast_upload_checked_rows_total" Counter File ["stream"]
        "Rows read for them.";
    UPLOAD_CHECK_SECONDS = "tablecast_upload_check_seconds_total" Counter File ["stream"]
        "For how long the stream stood still for them.";
    UPLOAD_DUMPS = "tablecast_upload_dumps_total" Counter File ["stream"]
        "Dumps put into the stream.";

    // A region. What the service tells is what the region reported last.
    REGIONS_READABLE = "tablecast_regions_readable" Gauge Service ["stream"]
        "1 if the service could list the regions' reports for this answer, else 0.";
    REGION_READABLE = "tablecast_region_readable" Gauge Service ["stream", "region"]
        "1 if the service could read the region's report for this answer, else 0: then nothing else is told of it but when that came.";
    REGION_AS_OF = "tablecast_region_as_of_timestamp_seconds" Gauge Both ["stream", "region"]
        "The source's time up to which the region is complete.";
    REGION_LAG = "tablecast_region_lag_seconds" Gauge Both ["stream", "region"]
        "How long ago that was when this was written; time() minus the timestamp goes on growing.";
    REGION_SEQ = "tablecast_region_last_seq" Gauge Both ["stream", "region"]
        "The last entry that the region has applied as a whole.";
    REGION_TX = "tablecast_region_last_tx" Gauge Both ["stream", "region"]
        "The last stream transaction of that entry.";
    REGION_BEHIND_ENTRIES = "tablecast_region_behind_entries" Gauge Both ["stream", "region"]
        "Entries of the stream that the region has not applied.";
    REGION_BEHIND_TRANSACTIONS = "tablecast_region_behind_transactions" Gauge Both ["stream", "region"]
        "Transactions of the stream that the region has not applied.";
    REGION_QUARANTINED = "tablecast_region_quarantined_tables" Gauge Both ["stream", "region"]
        "Tables whose changes are passed over.";
    REGION_DRIFTED = "tablecast_region_drifted_tables" Gauge Both ["stream", "region"]
        "Tables whose rows were not those of the source when they were compared last.";
    REGION_CHECKED = "tablecast_region_last_check_timestamp_seconds" Gauge Both ["stream", "region"]
        "When rows of the region were last compared with the source's; absent if they never were.";
    REGION_RESTORING = "tablecast_region_restores" Gauge Service ["stream", "region"]
        "Restores under way in the region.";
    REGION_STATE = "tablecast_region_state" Gauge Service ["stream", "region", "state"]
        "1 for the state that the service sees the region in, 0 for the others.";
    REGION_PAUSED = "tablecast_region_paused" Gauge Service ["stream", "region"]
        "1 while somebody wants nothing applied there, else 0.";
    REGION_PAUSED_SINCE = "tablecast_region_paused_since_timestamp_seconds" Gauge Service ["stream", "region"]
        "Since when that is.";
    REGION_REPORT = "tablecast_region_last_report_timestamp_seconds" Gauge Service ["stream", "region"]
        "When the region's last report came, by the store's clock.";
    REGION_SKEW = "tablecast_region_clock_skew_seconds" Gauge Service ["stream", "region"]
        "How far the region's clock was ahead of the store's when it reported last, the report's way included.";
    REGION_INFO = "tablecast_region_info" Gauge Service ["stream", "region", "program"]
        "1; the program that runs in the region, as it reported, cut to a name and a version.";

    // What apply has done.
    APPLY_TRANSACTIONS = "tablecast_apply_transactions_total" Counter File ["stream", "region"]
        "Transactions committed in the region by apply.";
    APPLY_SKIPPED = "tablecast_apply_skipped_transactions_total" Counter File ["stream", "region"]
        "Transactions found committed, by an earlier run that was cut short.";
    APPLY_ENTRIES = "tablecast_apply_entries_total" Counter File ["stream", "region"]
        "Entries applied as a whole.";
    APPLY_BYTES = "tablecast_apply_bytes_total" Counter File ["stream", "region"]
        "Bytes of the segments applied, compressed.";
    APPLY_QUARANTINES = "tablecast_apply_quarantines_total" Counter File ["stream", "region", "reason"]
        "Tables put into quarantine, by reason.";

    // Dumps that were asked for.
    DUMP_JOBS_READABLE = "tablecast_dump_jobs_readable" Gauge Service ["stream"]
        "1 if the service could read the requests for dumps for this answer, else 0.";
    DUMP_JOBS = "tablecast_dump_jobs" Gauge Service ["stream", "state"]
        "Requests for dumps that the bucket holds, by state.";
    DUMP_JOB_OLDEST = "tablecast_dump_oldest_pending_timestamp_seconds" Gauge Service ["stream"]
        "When the oldest request was made that is not over.";
    DUMP_JOB_PROGRESS = "tablecast_dump_last_progress_timestamp_seconds" Gauge Service ["stream"]
        "When something was last heard of a dump that is being taken.";

    // The store.
    STORE_REQUESTS = "tablecast_store_requests_total" Counter Both ["stream", "role", "region", "operation", "outcome"]
        "Operations on the store: get, put, list, head, delete. One may be several requests: parts, pages, repetitions.";
    STORE_SENT = "tablecast_store_sent_bytes_total" Counter Both ["stream", "role", "region"]
        "Bytes of the objects written.";
    STORE_RECEIVED = "tablecast_store_received_bytes_total" Counter Both ["stream", "role", "region"]
        "Bytes of the objects read.";

    // The service.
    SERVICE_START = "tablecast_service_start_timestamp_seconds" Gauge Service ["stream"]
        "When the service was started; its counters begin there.";
    HTTP_REQUESTS = "tablecast_http_requests_total" Counter Service ["stream", "route", "method", "code"]
        "Requests answered, by route, method and status.";
}

/// A point in time, and the age that is told beside it.
pub static AGES: &[(&Metric, &Metric)] = &[(&STREAM_AS_OF, &STREAM_LAG), (&REGION_AS_OF, &REGION_LAG)];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions_and_are_all_different() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let (name, help) = (metric.name, metric.help);
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(name.starts_with("tablecast_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Type::Counter, "{name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']), "{name}: {help}");
            assert!(!name.contains("timestamp") || name.ends_with("_timestamp_seconds"), "{name}");
            // Labels that a scrape has itself would be renamed.
            assert!(!metric.labels.iter().any(|label| ["job", "instance", "le"].contains(label)), "{name}");
        }
    }
}
