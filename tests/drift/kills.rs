//! I7: killed at any point of a check, the next run carries on, and nobody is alarmed for nothing.

use super::kit::{OFTEN, checks, differences, known};
use crate::apply::kit::Stream;
use crate::ops::kit::{Ran, at_source, command};
use crate::support::mysql::Server;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(40))";

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_killed_in_a_check_leaves_a_stream_that_goes_on() {
    let stream = Stream::new("drift_killed", APPS).await;
    let region = Server::start(&[]);
    let file = stream.source_file();
    let config = file.with_file_name("checking.toml");
    std::fs::write(&config, std::fs::read_to_string(&file).unwrap() + OFTEN).unwrap();
    let points = [
        "check.read",
        "check.before_put",
        "check.after_put",
        "check.before_append",
        "check.after_append",
        "dump.locked",
    ];
    for (n, point) in points.into_iter().enumerate() {
        stream.sql(&format!("INSERT INTO @.apps VALUES ({n}, '{point}')")).await;
        let mut killed = false;
        // It may have been put off: then the run ended well.
        while !killed {
            let mut upload = command(&config, &["upload"]);
            upload.env("TABLECAST_FAILPOINTS", format!("{point}=kill"));
            let ran = Ran::of(upload);
            killed = ran.code == -1;
            assert!(killed || ran.code == 0, "{point}: {ran:?}");
        }
        let before = checks(&stream).await.len();
        while checks(&stream).await.len() == before {
            Ran::of(command(&config, &["upload"])).ends(0, &[]);
        }
        at_source(&stream, &["verify"]).ends(0, &["sound"]);
        stream.apply(&region).await.unwrap();
        assert_eq!(differences(&known(&stream, &region).await), [""; 0], "{point}");
    }
    stream.assert_equal(&region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_killed_in_a_comparison_compares_again_and_tells_once_what_is_true() {
    let stream = Stream::new("drift_cut_short", APPS).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.apps VALUES (1, 'one'), (2, 'two')").await;
    super::kit::compare(&stream, &region).await;
    for (n, point) in [
        "check.before_compare",
        "check.compared",
        "check.recorded",
        "apply.before_position",
        "apply.after_position",
    ]
    .into_iter()
    .enumerate()
    {
        region.sql(&format!("UPDATE drift_cut_short.apps SET name = '{n}' WHERE id = 2")).await;
        super::kit::round(&stream, std::time::Duration::from_secs(5)).await;
        assert_eq!(stream.run(&region, &format!("{point}=kill")).status.code(), None, "{point}");
        stream.apply(&region).await.unwrap();
        assert_eq!(differences(&known(&stream, &region).await), ["apps 2 differs"], "{point}");
        region.sql("UPDATE drift_cut_short.apps SET name = 'two' WHERE id = 2").await;
        assert_eq!(differences(&super::kit::compare(&stream, &region).await), [""; 0], "{point}");
    }
    stream.assert_equal(&region).await;
}
