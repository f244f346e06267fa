//! Each alert rule, tried by `promtool test rules`: a set-up that is well, with a few series otherwise, and which alerts fire
//! then. Those, and no others.

use std::fmt::Write;

use super::promtool;

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/package/prometheus/tablecast.rules.yml");

/// A series, and its values minute by minute, in promtool's notation.
type Series = (&'static str, &'static str);
/// An alert, and its labels beside its name, in the order of their names.
type Fires = (&'static str, &'static str);

/// Everything is as it should be for five hours.
const WELL: &[Series] = &[
    (r#"tablecast_build_info{stream="apps",role="source",version="1",format="1.3"}"#, "1x400"),
    (r#"tablecast_service_start_timestamp_seconds{stream="apps"}"#, "0x400"),
    (r#"tablecast_last_run_timestamp_seconds{stream="apps",role="source",command="upload"}"#, "0+60x400"),
    (
        r#"tablecast_last_run_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#,
        "0+60x400",
    ),
    (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="source",command="upload"}"#, "0+60x400"),
    (
        r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#,
        "0+60x400",
    ),
    (r#"tablecast_last_run_exit_code{stream="apps",role="source",command="upload"}"#, "0x400"),
    (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="apply"}"#, "0x400"),
    (r#"tablecast_stream_readable{stream="apps"}"#, "1x400"),
    (r#"tablecast_stream_as_of_timestamp_seconds{stream="apps"}"#, "0+60x400"),
    (r#"tablecast_stream_refused{stream="apps"}"#, "0x400"),
    (r#"tablecast_stream_gap{stream="apps"}"#, "0x400"),
    (r#"tablecast_stream_filter_wrong{stream="apps"}"#, "0x400"),
    (r#"tablecast_regions_readable{stream="apps"}"#, "1x400"),
    (r#"tablecast_region_readable{stream="apps",region="eu1"}"#, "1x400"),
    (r#"tablecast_dump_jobs_readable{stream="apps"}"#, "1x400"),
    (r#"tablecast_stream_owes_dump{stream="apps"}"#, "0x400"),
    (r#"tablecast_stream_paused{stream="apps"}"#, "0x400"),
    (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x400"),
    (r#"tablecast_region_last_report_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x400"),
    (r#"tablecast_region_state{stream="apps",region="eu1",state="failing"}"#, "0x400"),
    (r#"tablecast_region_quarantined_tables{stream="apps",region="eu1"}"#, "0x400"),
    (r#"tablecast_region_clock_skew_seconds{stream="apps",region="eu1"}"#, "-0.4x400"),
    (r#"tablecast_region_paused{stream="apps",region="eu1"}"#, "0x400"),
    (
        r#"tablecast_store_requests_total{stream="apps",role="source",operation="get",outcome="ok"}"#,
        "0+5x400",
    ),
    (
        r#"tablecast_store_requests_total{stream="apps",role="source",operation="get",outcome="error"}"#,
        "2x400",
    ),
];

/// What is otherwise, after how long, and what fires then.
type Case = (&'static str, &'static [Series], &'static str, &'static [Fires]);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("all is well", &[
    ], "4h", &[]),
    ("upload has stopped: the stream stands still, and the region with it", &[
        (r#"tablecast_stream_as_of_timestamp_seconds{stream="apps"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
    ], "1h10m", &[("TablecastStreamStandsStill", r#"severity="critical",stream="apps""#)]),
    ("five minutes are no standstill yet", &[
        (r#"tablecast_stream_as_of_timestamp_seconds{stream="apps"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
    ], "1h5m", &[]),
    ("a stream that is paused stands still on purpose", &[
        (r#"tablecast_stream_as_of_timestamp_seconds{stream="apps"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
        (r#"tablecast_stream_paused{stream="apps"}"#, "0x60 1x340"),
        (r#"tablecast_stream_paused_since_timestamp_seconds{stream="apps"}"#, "_x60 3600x340"),
    ], "3h", &[]),
    ("a pause that lasts", &[
        (r#"tablecast_stream_as_of_timestamp_seconds{stream="apps"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
        (r#"tablecast_stream_paused{stream="apps"}"#, "0x60 1x400"),
        (r#"tablecast_stream_paused_since_timestamp_seconds{stream="apps"}"#, "_x60 3600x400"),
    ], "5h1m", &[("TablecastPausedForLong", r#"severity="warning",stream="apps""#)]),
    ("a region is paused for long", &[
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_paused{stream="apps",region="eu1"}"#, "0x60 1x400"),
        (r#"tablecast_region_paused_since_timestamp_seconds{stream="apps",region="eu1"}"#, "_x60 3600x400"),
    ], "5h1m", &[("TablecastPausedForLong", r#"region="eu1",severity="warning",stream="apps""#)]),
    ("runs end with 14 for long, where no service tells of it", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="apply"}"#, "0x30 14x400"),
        (r#"tablecast_region_paused{stream="apps",region="eu1"}"#, "_x400"),
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x30 1800x400"),
    ], "5h1m", &[("TablecastRunsPausedForLong", r#"command="apply",region="eu1",role="region",severity="warning",stream="apps""#)]),
    ("a region that is paused lags on purpose, where no service tells of it", &[
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x60 3600x340"),
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="apply"}"#, "0x60 14x340"),
        (r#"tablecast_region_paused{stream="apps",region="eu1"}"#, "_x400"),
    ], "3h", &[]),
    ("the service cannot read the stream", &[
        (r#"tablecast_stream_readable{stream="apps"}"#, "1x60 0x340"),
        (r#"tablecast_stream_as_of_timestamp_seconds{stream="apps"}"#, "0+60x60 _x340"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 _x340"),
    ], "1h10m", &[("TablecastStreamUnreadable", r#"severity="critical",stream="apps""#)]),
    ("a transaction is refused, as the head says", &[
        (r#"tablecast_stream_refused{stream="apps"}"#, "0x60 1x340"),
    ], "1h1m", &[("TablecastGateRefusal", r#"severity="critical",stream="apps""#)]),
    ("a run ends with 15", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="apply"}"#, "0x60 15x340"),
    ], "1h1m", &[("TablecastGateRefusal", r#"command="apply",region="eu1",role="region",severity="critical",stream="apps""#)]),
    ("the filters may have kept something back", &[
        (r#"tablecast_stream_gap{stream="apps"}"#, "0x60 1x340"),
    ], "1h1m", &[("TablecastStreamGap", r#"severity="critical",stream="apps""#)]),
    ("apply has had no success for a quarter of an hour", &[
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x60 3600x340"),
    ], "1h17m", &[("TablecastNoSuccess", r#"command="apply",region="eu1",role="region",severity="critical",stream="apps""#)]),
    ("ten minutes without success are none yet", &[
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x60 3600x340"),
    ], "1h10m", &[]),
    ("upload runs and has never succeeded", &[
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="source",command="upload"}"#, "_x400"),
    ], "1h", &[("TablecastNeverSucceeded", r#"command="upload",role="source",severity="warning",stream="apps""#)]),
    ("exit code 10", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="source",command="upload"}"#, "0x60 10x340"),
    ], "1h1m", &[("TablecastHistoryLost", r#"command="upload",role="source",severity="critical",stream="apps""#)]),
    ("exit code 12", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="apply"}"#, "0x60 12x340"),
    ], "1h6m", &[("TablecastDenied", r#"command="apply",region="eu1",role="region",severity="critical",stream="apps""#)]),
    ("exit code 13: the format is too new", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="apply"}"#, "0x60 13x340"),
    ], "1h1m", &[("TablecastFormatTooNew", r#"command="apply",region="eu1",role="region",severity="critical",stream="apps""#)]),
    ("exit code 1", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="source",command="upload"}"#, "0x60 1x340"),
    ], "1h6m", &[("TablecastRunFails", r#"command="upload",role="source",severity="warning",stream="apps""#)]),
    ("exit code 2", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="source",command="upload"}"#, "0x60 2x340"),
    ], "1h6m", &[("TablecastRunFails", r#"command="upload",role="source",severity="warning",stream="apps""#)]),
    ("exit code 4 of verify", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="source",command="verify"}"#, "4x400"),
        (r#"tablecast_last_run_timestamp_seconds{stream="apps",role="source",command="verify"}"#, "0x400"),
    ], "10m", &[("TablecastRunFails", r#"command="verify",role="source",severity="warning",stream="apps""#)]),
    ("a failure that the next run has mended", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="source",command="upload"}"#, "0x60 1x3 0x340"),
    ], "1h10m", &[]),
    ("exit codes 3, 11 and 143 are no failures of their own", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="apply"}"#, "0x60 3x20 11x20 143x400"),
    ], "2h", &[]),
    ("exit code 11 for half an hour", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="source",command="upload"}"#, "0x60 11x340"),
    ], "1h31m", &[("TablecastLocked", r#"command="upload",role="source",severity="warning",stream="apps""#)]),
    ("a region lags", &[
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
    ], "1h11m", &[("TablecastRegionLags", r#"region="eu1",severity="warning",stream="apps""#)]),
    ("a region is silent", &[
        (r#"tablecast_region_last_report_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
    ], "1h12m", &[("TablecastRegionSilent", r#"region="eu1",severity="critical",stream="apps""#)]),
    ("a region fails", &[
        (r#"tablecast_region_state{stream="apps",region="eu1",state="failing"}"#, "0x60 1x340"),
    ], "1h6m", &[("TablecastRegionFailing", r#"region="eu1",severity="critical",stream="apps""#)]),
    ("a table is in quarantine", &[
        (r#"tablecast_region_quarantined_tables{stream="apps",region="eu1"}"#, "0x60 1x340"),
    ], "1h16m", &[("TablecastTableQuarantined", r#"region="eu1",severity="warning",stream="apps""#)]),
    ("one that a dump has brought back soon", &[
        (r#"tablecast_region_quarantined_tables{stream="apps",region="eu1"}"#, "0x60 1x10 0x340"),
    ], "1h16m", &[]),
    ("rows of a table differ", &[
        (r#"tablecast_region_drifted_tables{stream="apps",region="eu1"}"#, "0x60 1x340"),
    ], "1h16m", &[("TablecastTableDrifted", r#"region="eu1",severity="warning",stream="apps""#)]),
    ("no rows are compared any more", &[
        (r#"tablecast_region_last_check_timestamp_seconds{stream="apps",region="eu1"}"#, "-80000x400"),
    ], "2h6m", &[("TablecastNoChecks", r#"region="eu1",severity="warning",stream="apps""#)]),
    ("a dump does not come", &[
        (r#"tablecast_dump_oldest_pending_timestamp_seconds{stream="apps"}"#, "_x60 3600x340"),
    ], "2h6m", &[("TablecastDumpStuck", r#"severity="warning",stream="apps""#)]),
    ("a dump is under way", &[
        (r#"tablecast_dump_oldest_pending_timestamp_seconds{stream="apps"}"#, "_x60 3600x50"),
    ], "2h6m", &[]),
    ("a dump is owed", &[
        (r#"tablecast_stream_owes_dump{stream="apps"}"#, "0x60 1x340"),
    ], "2h1m", &[("TablecastDumpOwed", r#"severity="warning",stream="apps""#)]),
    ("the store fails", &[
        (r#"tablecast_store_requests_total{stream="apps",role="source",operation="get",outcome="error"}"#, "2x60 3+1x340"),
    ], "1h20m", &[("TablecastStoreFails", r#"role="source",severity="warning",stream="apps""#)]),
    ("a region's clock is ahead", &[
        (r#"tablecast_region_clock_skew_seconds{stream="apps",region="eu1"}"#, "0x60 45x340"),
    ], "1h6m", &[("TablecastClockSkew", r#"region="eu1",severity="warning",stream="apps""#)]),
    ("a region's clock is behind", &[
        (r#"tablecast_region_clock_skew_seconds{stream="apps",region="eu1"}"#, "0x60 -45x340"),
    ], "1h6m", &[("TablecastClockSkew", r#"region="eu1",severity="warning",stream="apps""#)]),
    ("the source's clock is ahead", &[
        (r#"tablecast_stream_as_of_timestamp_seconds{stream="apps"}"#, "300+60x400"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "300+60x400"),
    ], "1h6m", &[("TablecastClockSkew", r#"severity="warning",stream="apps""#)]),
    ("the text file of a region is gone", &[
        (r#"tablecast_last_run_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x60 _x340"),
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x60 _x340"),
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="apply"}"#, "0x60 _x340"),
    ], "1h16m", &[("TablecastMetricsGone", r#"command="apply",region="eu1",role="region",severity="critical",stream="apps""#)]),
    ("the service is gone", &[
        (r#"tablecast_service_start_timestamp_seconds{stream="apps"}"#, "0x60 _x340"),
    ], "1h11m", &[("TablecastServiceGone", r#"severity="critical",stream="apps""#)]),
    // -- Pauses that are over, or that nobody tells of any more.
    ("a run from cron ended with 14 long ago, and none has come since", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="apply"}"#, "0x60 14x340"),
        (r#"tablecast_last_run_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x60 3600x340"),
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_paused{stream="apps",region="eu1"}"#, "_x400"),
    ], "1h20m", &[("TablecastNoSuccess", r#"command="apply",region="eu1",role="region",severity="critical",stream="apps""#)]),
    ("a pause is over, and the timers are still off", &[
        (r#"tablecast_stream_paused{stream="apps"}"#, "0x30 1x29 0x400"),
        (r#"tablecast_stream_as_of_timestamp_seconds{stream="apps"}"#, "0+60x30 1800x370"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x30 1800x370"),
        (r#"tablecast_last_run_exit_code{stream="apps",role="source",command="upload"}"#, "0x30 14x370"),
        (r#"tablecast_last_run_timestamp_seconds{stream="apps",role="source",command="upload"}"#, "0+60x60 3600x340"),
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="source",command="upload"}"#, "0+60x30 1800x370"),
    ], "1h10m", &[("TablecastNoSuccess", r#"command="upload",role="source",severity="critical",stream="apps""#), ("TablecastStreamStandsStill", r#"severity="critical",stream="apps""#)]),
    ("a run says that it is paused, and its region's fresh report says that it is not", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="apply"}"#, "0x60 14x340"),
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x60 3600x340"),
    ], "1h20m", &[("TablecastNoSuccess", r#"command="apply",region="eu1",role="region",severity="critical",stream="apps""#)]),
    ("a region is paused and cannot report it", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="apply"}"#, "0x60 14x340"),
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_last_report_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
    ], "1h30m", &[("TablecastRegionSilent", r#"region="eu1",severity="critical",stream="apps""#)]),
    ("upload has moved here while it was paused there, and now it hangs", &[
        (r#"tablecast_last_run_exit_code{instance="old",stream="apps",role="source",command="upload"}"#, "14x400"),
        (r#"tablecast_last_run_timestamp_seconds{instance="old",stream="apps",role="source",command="upload"}"#, "60x400"),
        (r#"tablecast_last_success_timestamp_seconds{instance="old",stream="apps",role="source",command="upload"}"#, "60x400"),
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="source",command="upload"}"#, "0+60x60 3600x340"),
    ], "1h17m", &[("TablecastNoSuccess", r#"command="upload",role="source",severity="critical",stream="apps""#)]),
    ("upload has moved here, and the file of the old machine still says 10", &[
        (r#"tablecast_last_run_exit_code{instance="old",stream="apps",role="source",command="upload"}"#, "10x400"),
        (r#"tablecast_last_run_timestamp_seconds{instance="old",stream="apps",role="source",command="upload"}"#, "60x400"),
        (r#"tablecast_last_success_timestamp_seconds{instance="old",stream="apps",role="source",command="upload"}"#, "60x400"),
    ], "1h17m", &[]),
    // -- Whole incidents: as many alerts as there are things to do.
    ("the history is lost: one alert says what to do", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="source",command="upload"}"#, "0x60 10x340"),
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="source",command="upload"}"#, "0+60x60 3600x340"),
        (r#"tablecast_stream_as_of_timestamp_seconds{stream="apps"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
    ], "1h30m", &[("TablecastHistoryLost", r#"command="upload",role="source",severity="critical",stream="apps""#)]),
    ("a transaction is refused, by the head and by the run", &[
        (r#"tablecast_stream_refused{stream="apps"}"#, "0x60 1x340"),
        (r#"tablecast_last_run_exit_code{stream="apps",role="source",command="upload"}"#, "0x60 15x340"),
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="source",command="upload"}"#, "0+60x60 3600x340"),
        (r#"tablecast_stream_as_of_timestamp_seconds{stream="apps"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
    ], "1h30m", &[("TablecastGateRefusal", r#"severity="critical",stream="apps""#)]),
    ("a region's account is refused", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="apply"}"#, "0x60 12x340"),
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_state{stream="apps",region="eu1",state="failing"}"#, "0x60 1x340"),
    ], "1h30m", &[("TablecastDenied", r#"command="apply",region="eu1",role="region",severity="critical",stream="apps""#), ("TablecastRegionFailing", r#"region="eu1",severity="critical",stream="apps""#), ("TablecastRegionLags", r#"region="eu1",severity="warning",stream="apps""#)]),
    ("a region is cut off: it is silent, and what it said last is not told as lag", &[
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
        (r#"tablecast_region_last_report_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
    ], "1h30m", &[("TablecastRegionSilent", r#"region="eu1",severity="critical",stream="apps""#)]),
    ("rows were kept back by a filter", &[
        (r#"tablecast_stream_gap{stream="apps"}"#, "0x60 1x340"),
        (r#"tablecast_stream_filter_wrong{stream="apps"}"#, "0x60 1x340"),
        (r#"tablecast_last_run_exit_code{stream="apps",role="source",command="upload"}"#, "0x60 10x340"),
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="source",command="upload"}"#, "0+60x60 3600x340"),
    ], "1h20m", &[("TablecastStreamGap", r#"severity="critical",stream="apps""#)]),
    ("a filter is wrong, and nothing is lost yet", &[
        (r#"tablecast_stream_filter_wrong{stream="apps"}"#, "0x60 1x340"),
    ], "1h1m", &[("TablecastSourceFilterWrong", r#"severity="warning",stream="apps""#)]),
    ("a first load takes hours, and gets on", &[
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "_x400"),
        (r#"tablecast_last_progress_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x400"),
    ], "3h", &[]),
    ("a catch-up takes hours, and gets on", &[
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x60 3600x340"),
        (r#"tablecast_last_progress_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x400"),
    ], "3h", &[]),
    ("one that got on and hangs now", &[
        (r#"tablecast_last_success_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x60 3600x340"),
        (r#"tablecast_last_progress_timestamp_seconds{stream="apps",role="region",region="eu1",command="apply"}"#, "0+60x120 7200x280"),
    ], "2h17m", &[("TablecastNoSuccess", r#"command="apply",region="eu1",role="region",severity="critical",stream="apps""#)]),
    ("what somebody ran by hand and saw fail is no alert, 50m", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="restore"}"#, "0x10 2x50 10x50 11x50 12x50 13x50 15x400"),
        (r#"tablecast_last_run_timestamp_seconds{stream="apps",role="region",region="eu1",command="restore"}"#, "0x400"),
    ], "50m", &[]),
    ("what somebody ran by hand and saw fail is no alert, 1h50m", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="restore"}"#, "0x10 2x50 10x50 11x50 12x50 13x50 15x400"),
        (r#"tablecast_last_run_timestamp_seconds{stream="apps",role="region",region="eu1",command="restore"}"#, "0x400"),
    ], "1h50m", &[]),
    ("what somebody ran by hand and saw fail is no alert, 2h50m", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="restore"}"#, "0x10 2x50 10x50 11x50 12x50 13x50 15x400"),
        (r#"tablecast_last_run_timestamp_seconds{stream="apps",role="region",region="eu1",command="restore"}"#, "0x400"),
    ], "2h50m", &[]),
    ("what somebody ran by hand and saw fail is no alert, 5h", &[
        (r#"tablecast_last_run_exit_code{stream="apps",role="region",region="eu1",command="restore"}"#, "0x10 2x50 10x50 11x50 12x50 13x50 15x400"),
        (r#"tablecast_last_run_timestamp_seconds{stream="apps",role="region",region="eu1",command="restore"}"#, "0x400"),
    ], "5h", &[]),
    // -- What the service cannot read.
    ("a region's report cannot be read", &[
        (r#"tablecast_region_readable{stream="apps",region="eu1"}"#, "1x60 0x340"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 _x340"),
        (r#"tablecast_region_state{stream="apps",region="eu1",state="failing"}"#, "0x60 _x340"),
        (r#"tablecast_region_quarantined_tables{stream="apps",region="eu1"}"#, "0x60 _x340"),
        (r#"tablecast_region_clock_skew_seconds{stream="apps",region="eu1"}"#, "-0.4x60 _x340"),
        (r#"tablecast_region_paused{stream="apps",region="eu1"}"#, "0x60 _x340"),
    ], "1h10m", &[("TablecastRegionUnreadable", r#"region="eu1",severity="warning",stream="apps""#)]),
    ("and it is silent, too", &[
        (r#"tablecast_region_readable{stream="apps",region="eu1"}"#, "1x60 0x340"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 _x340"),
        (r#"tablecast_region_state{stream="apps",region="eu1",state="failing"}"#, "0x60 _x340"),
        (r#"tablecast_region_quarantined_tables{stream="apps",region="eu1"}"#, "0x60 _x340"),
        (r#"tablecast_region_clock_skew_seconds{stream="apps",region="eu1"}"#, "-0.4x60 _x340"),
        (r#"tablecast_region_paused{stream="apps",region="eu1"}"#, "0x60 _x340"),
        (r#"tablecast_region_last_report_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 3600x340"),
    ], "1h20m", &[("TablecastRegionUnreadable", r#"region="eu1",severity="warning",stream="apps""#), ("TablecastRegionSilent", r#"region="eu1",severity="critical",stream="apps""#)]),
    ("the regions cannot be listed", &[
        (r#"tablecast_regions_readable{stream="apps"}"#, "1x60 0x340"),
        (r#"tablecast_region_readable{stream="apps",region="eu1"}"#, "1x60 _x340"),
        (r#"tablecast_region_last_report_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 _x340"),
        (r#"tablecast_region_as_of_timestamp_seconds{stream="apps",region="eu1"}"#, "0+60x60 _x340"),
        (r#"tablecast_region_state{stream="apps",region="eu1",state="failing"}"#, "0x60 _x340"),
        (r#"tablecast_region_quarantined_tables{stream="apps",region="eu1"}"#, "0x60 _x340"),
        (r#"tablecast_region_clock_skew_seconds{stream="apps",region="eu1"}"#, "-0.4x60 _x340"),
        (r#"tablecast_region_paused{stream="apps",region="eu1"}"#, "0x60 _x340"),
    ], "1h10m", &[("TablecastRegionsUnreadable", r#"severity="critical",stream="apps""#)]),
    ("the requests for dumps cannot be read", &[
        (r#"tablecast_dump_jobs_readable{stream="apps"}"#, "1x60 0x340"),
    ], "1h6m", &[("TablecastDumpJobsUnreadable", r#"severity="warning",stream="apps""#)]),
    ("a dump takes hours, and gets on", &[
        (r#"tablecast_dump_oldest_pending_timestamp_seconds{stream="apps"}"#, "_x60 3600x340"),
        (r#"tablecast_dump_last_progress_timestamp_seconds{stream="apps"}"#, "_x60 3600+60x340"),
    ], "3h", &[]),
    ("a dump gets on no more", &[
        (r#"tablecast_dump_oldest_pending_timestamp_seconds{stream="apps"}"#, "_x60 3600x340"),
        (r#"tablecast_dump_last_progress_timestamp_seconds{stream="apps"}"#, "_x60 3600+60x90 9000x300"),
    ], "3h", &[("TablecastDumpStuck", r#"severity="warning",stream="apps""#)]),
    ("two operations on the store fail", &[
        (r#"tablecast_store_requests_total{stream="apps",role="source",operation="get",outcome="error"}"#, "2x60 4x340"),
    ], "1h13m", &[]),
];

/// A day after they were seen last.
const GONE: &[Series] = &[
    (r#"tablecast_build_info{stream="apps",role="source",version="1",format="1.3"}"#, "1x1600"),
    (r#"tablecast_service_start_timestamp_seconds{stream="apps"}"#, "0x60 _x1540"),
    (
        r#"tablecast_last_run_timestamp_seconds{stream="apps",role="source",command="upload"}"#,
        "0+60x60 _x1540",
    ),
];

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn case(text: &mut String, name: &str, series: &[Series], at: &str, fires: &[Fires]) {
    let _ = writeln!(text, "  - name: {}\n    interval: 1m\n    input_series:", quoted(name));
    for (series, values) in series {
        let _ = writeln!(text, "      - {{series: {}, values: '{values}'}}", quoted(series));
    }
    let expression = "ALERTS{alertstate=\"firing\"}";
    let _ = writeln!(text, "    promql_expr_test:\n      - expr: {expression}\n        eval_time: {at}");
    let _ = writeln!(text, "        exp_samples:{}", if fires.is_empty() { " []" } else { "" });
    for (alert, labels) in fires {
        let labels = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\",{labels}}}");
        let _ = writeln!(text, "          - {{labels: {}, value: 1}}", quoted(&labels));
    }
}

#[test]
fn each_alert_fires_when_it_should_and_none_when_all_is_well() {
    let mut text = format!("rule_files: [{}]\nevaluation_interval: 1m\ntests:\n", quoted(RULES));
    for (name, otherwise, at, fires) in CASES {
        let same = |one: &Series, other: &Series| one.0 == other.0;
        let mut series: Vec<Series> =
            WELL.iter().filter(|well| !otherwise.iter().any(|other| same(well, other))).copied().collect();
        series.extend_from_slice(otherwise);
        case(&mut text, name, &series, at, fires);
    }
    let unseen = [("TablecastNoMetrics", r#"severity="warning""#)];
    case(&mut text, "nothing is scraped", &[("up{job=\"other\"}", "1x30")], "16m", &unseen);
    let gone = [
        ("TablecastMetricsGone", r#"command="upload",role="source",severity="critical",stream="apps""#),
        ("TablecastServiceGone", r#"severity="critical",stream="apps""#),
    ];
    case(&mut text, "machine and service are gone since yesterday", GONE, "25h", &gone);
    text.push_str(SAYS);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tests.yml");
    std::fs::write(&path, &text).expect("write the tests");
    promtool(&["check", "rules", RULES], "");
    promtool(&["test", "rules", path.to_str().expect("a path")], "");
    // Every rule has a case.
    let rules = std::fs::read_to_string(RULES).expect("the rules");
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(text.contains(&format!("alertname=\"{alert}\"")), "nothing tries {alert}");
    }
}

/// Whole texts, as somebody reads them who has been woken.
const SAYS: &str = r#"
  - name: 'what an alert says'
    interval: 1m
    input_series:
      - {series: 'tablecast_build_info{stream="apps"}', values: '1x300'}
      - {series: 'tablecast_region_quarantined_tables{stream="apps",region="eu1"}', values: '2x300'}
    alert_rule_test:
      - alertname: TablecastTableQuarantined
        eval_time: 20m
        exp_alerts:
          - exp_labels: {severity: warning, stream: apps, region: eu1}
            exp_annotations:
              summary: 'Region eu1 of stream apps: 2 tables in quarantine'
              description: 'Their changes are passed over until a dump brings them back; all other tables go on. `tablecast quarantine list` there has the errors.'
              runbook_url: docs/runbooks/quarantined-table.md
"#;
