//! A stream with an hour behind it, and regions in one state or another: what a page has to show.

use std::fs::File;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use tablecast::binlog::name::TableName;
use tablecast::clock::{Clock, SystemClock};
use tablecast::source::dump::queue;
use tablecast::store::{self, Store};
use tablecast::stream::{
    Body, Codec, DumpEntry, DumpId, Head, Key, Md5, Paused, RegionReport, ReportedFailure,
    ReportedQuarantine, ReportedRestore, RequestState, SegmentEntry, StreamTx,
};

use super::kit::{Answer, Desk, Place, Served, admin, region_token};
use crate::support::report_of;

/// A region's name, how many minutes ago it was heard last, and its lag in seconds by minutes ago.
type Life<'a> = (&'a str, i64, fn(i64) -> i64);

/// A service with a stream, as people come to it.
pub struct Scene {
    pub store: Arc<dyn Store>,
    pub head: Head,
    pub served: Served,
    pub now: DateTime<Utc>,
    place: Place,
    pub desk: Desk,
    /// How far back it goes, in minutes.
    minutes: i64,
}

/// Transactions in the minute that began so many minutes ago.
fn busy(ago: i64) -> u64 {
    let wave = (ago as f64 / 9.0).sin() * 60.0 + (ago as f64 / 2.3).cos() * 25.0;
    (140.0 + wave) as u64 + if (20..24).contains(&ago) { 400 } else { 0 }
}

fn table(name: &str) -> TableName {
    name.parse().unwrap()
}

async fn write(store: &dyn Store, head: &mut Head) {
    let etag = match store.get(&Key::head(), None).await.unwrap() {
        store::Fetched::Object { etag, .. } => etag,
        store::Fetched::Unchanged => unreachable!("a plain read"),
    };
    store::head::write(store, head, Some(&etag)).await.unwrap();
}

impl Scene {
    /// So many minutes of a busy stream, with a full dump at its beginning.
    pub async fn new(minutes: i64) -> Scene {
        let place = Place::directory();
        let (store, mut head) = place.stream().await;
        let now = SystemClock.now();
        let begin = now - TimeDelta::minutes(minutes + 1);
        let id = DumpId::new(begin, 7);
        let full = DumpEntry {
            manifest: Key::manifest(&id),
            id,
            size: 1,
            md5: Md5::of(b"manifest"),
            at: StreamTx::ZERO,
            snapshot: head.covered.clone(),
            tables: vec![table("g.apps"), table("g.partners"), table("g.plans")],
            full: true,
            mandatory: false,
            lacks: None,
            brought: None,
            resync: false,
            rows: 3_412_907,
            bytes: 812 << 20,
            taken_at: begin,
            requests: Vec::new(),
        };
        head.append(Body::Dump(full), begin).unwrap();
        for ago in (0..minutes).rev() {
            let at = now - TimeDelta::minutes(ago) - TimeDelta::seconds(20);
            let (first, count) = (head.last_tx.next(), busy(ago));
            let last = StreamTx(head.last_tx.0 + count);
            let covered = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{}", last.0);
            let segment = SegmentEntry {
                key: Key::segment(first, last, at, Codec::Gzip),
                size: 4_096,
                md5: Md5::of(b"segment"),
                raw_size: 16_384,
                codec: Codec::Gzip,
                first_tx: first,
                last_tx: last,
                count,
                tables: vec![table("g.apps")],
                covered_before: head.covered.clone(),
                covered_after: covered.parse().unwrap(),
                first_commit: at - TimeDelta::seconds(3),
                last_commit: at - TimeDelta::seconds(1),
                definitions: Vec::new(),
            };
            head.append(Body::Segment(segment), at).unwrap();
        }
        head.as_of = now - TimeDelta::seconds(1);
        write(&*store, &mut head).await;
        let desk = Desk::new(&place, "");
        Scene { served: desk.serve(), store, head, now, place, desk, minutes }
    }

    /// Writes the head as it is here.
    pub async fn write(&mut self) {
        write(&*self.store, &mut self.head).await;
    }

    /// A region's report as it came so long ago, when it showed the source as of `lag` before.
    pub async fn report(
        &self,
        name: &str,
        ago: TimeDelta,
        lag: TimeDelta,
        change: impl FnOnce(&mut RegionReport),
    ) {
        let at = self.now - ago;
        let as_of = at - lag;
        let mut report = report_of(name, self.head.stream);
        let done = self.head.entries.iter().rfind(|entry| entry.created_at <= as_of + TimeDelta::seconds(3));
        let done = done.unwrap_or(&self.head.entries[0]);
        report.seq = done.seq;
        report.chain = done.chain;
        report.last_tx = match &done.body {
            Body::Segment(segment) => segment.last_tx,
            _ => StreamTx::ZERO,
        };
        report.as_of = Some(as_of);
        report.reported_at = at;
        report.version = "tablecast 0.1.0".into();
        change(&mut report);
        self.put(name, &report.to_json().unwrap(), at).await;
    }

    /// An object in the place of a report, of that age.
    pub async fn put(&self, name: &str, bytes: &[u8], at: DateTime<Utc>) {
        let Place::Directory(bucket) = &self.place else { panic!("a folder") };
        let path = bucket.path().join(Key::region(name).unwrap().as_str());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(SystemTime::from(at)).unwrap();
    }

    /// A region's whole time, minute by minute up to `until` minutes ago, seen by the service each time. `lag`: in seconds,
    /// by minutes ago.
    pub async fn live(&self, regions: &[Life<'_>]) {
        let tokens = [admin().text, region_token("eu1").text, region_token("us1").text];
        for ago in (0..self.minutes).rev() {
            for (name, until, lag) in regions {
                if ago >= *until {
                    self.report(
                        name,
                        TimeDelta::minutes(ago) + TimeDelta::seconds(4),
                        TimeDelta::seconds(lag(ago)),
                        |_| {},
                    )
                    .await;
                }
            }
            let token = &tokens[usize::try_from(ago).unwrap() % tokens.len()];
            assert_eq!(self.served.get("/v1/status", token).await.status, 200);
        }
    }

    /// Asks for a dump; `change`: what has become of it.
    pub async fn job(&self, region: &str, table: &str, change: impl FnOnce(&mut tablecast::stream::Request)) {
        let asked = Answer::of(self.served.ask(&admin().text, region, &[table])).await.json();
        let id = asked["id"].as_str().unwrap().parse().unwrap();
        let (mut request, etag) = queue::read(&*self.store, &id).await.unwrap();
        change(&mut request);
        queue::write(&*self.store, &request, &etag).await.unwrap();
    }

    /// The page's URL with a token in it, as a browser takes it.
    pub fn url(&self, path: &str) -> String {
        format!("http://reader:{}@{}{path}", region_token("us1").text, self.served.address())
    }

    pub async fn all_well(minutes: i64) -> Scene {
        let scene = Scene::new(minutes).await;
        scene
            .live(&[
                ("ap1", 0, |ago| 2 + ago % 3),
                ("eu1", 0, |ago| 1 + ago % 2),
                ("us1", 0, |ago| if ago == 21 { 41 } else { 1 }),
            ])
            .await;
        scene
    }

    /// `us1` applies less and less.
    pub async fn lagging(minutes: i64) -> Scene {
        let scene = Scene::new(minutes).await;
        scene
            .live(&[
                ("ap1", 0, |ago| 2 + ago % 3),
                ("eu1", 0, |ago| 1 + ago % 2),
                ("us1", 0, |ago| if ago < 16 { (16 - ago) * 54 } else { 2 }),
            ])
            .await;
        scene
    }

    /// Tables in quarantine: one waits for a dump that is being taken, one is being restored, of one nobody has asked for a dump.
    pub async fn quarantined(minutes: i64) -> Scene {
        let scene = Scene::new(minutes).await;
        scene.live(&[("ap1", 1, |ago| 2 + ago % 3), ("eu1", 1, |ago| 1 + ago % 2), ("us1", 0, |_| 1)]).await;
        let quarantine = |table: &str, ago: i64, error: &str| ReportedQuarantine {
            table: self::table(table),
            since_tx: StreamTx(4_177),
            since: scene.now - TimeDelta::minutes(ago),
            error: error.into(),
        };
        let gone = "g.apps: error 1032: Can't find record in 'apps': the row with id = 17 is not there, which UPDATE wanted to change";
        let twice = "g.plans: error 1062: Duplicate entry '9' for key 'plans.PRIMARY'";
        scene
            .report("eu1", TimeDelta::seconds(4), TimeDelta::seconds(1), |report| {
                report.quarantined = vec![quarantine("g.apps", 7, gone), quarantine("g.plans", 26, twice)];
            })
            .await;
        let dump = DumpId::new(scene.now - TimeDelta::minutes(3), 9);
        scene
            .report("ap1", TimeDelta::seconds(9), TimeDelta::seconds(2), |report| {
                report.quarantined = vec![quarantine("g.partners", 12, "g.partners: the table is not there")];
                report.restoring = vec![ReportedRestore {
                    tables: vec![self::table("g.partners")],
                    dump: dump.clone(),
                    state: "loading".into(),
                    rows: 184_220,
                    rows_total: 402_118,
                }];
            })
            .await;
        let now = SystemClock.now();
        scene
            .job("eu1", "g.apps", |job| {
                job.reason = "g.apps is quarantined: row 17 is not there".into();
                job.advance(RequestState::Running, now).unwrap();
                job.dump = Some(DumpId::new(now, 11));
                (job.rows, job.rows_total, job.bytes, job.eta_seconds) =
                    (1_204_000, 2_988_000, 190 << 20, Some(95));
            })
            .await;
        scene
    }

    /// Nothing is heard of `ap1`.
    pub async fn silent(minutes: i64) -> Scene {
        let scene = Scene::new(minutes).await;
        scene.live(&[("ap1", 17, |ago| 2 + ago % 3), ("eu1", 0, |ago| 1 + ago % 2), ("us1", 0, |_| 1)]).await;
        scene
    }

    /// A failure as a region tells it.
    pub fn failure(&self, kind: &str, hint: &str) -> ReportedFailure {
        ReportedFailure {
            at: self.now,
            job: "apply".into(),
            kind: kind.into(),
            exit_code: 10,
            hint: Some(hint.into()),
            runbook: format!("docs/exit-codes.md#{kind}"),
        }
    }

    pub fn pause(&self, reason: &str) -> Paused {
        Paused {
            reason: reason.into(),
            by: "ada@db3".into(),
            since: self.now - TimeDelta::minutes(9),
            until: None,
        }
    }
}
