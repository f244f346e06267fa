//! Events that lie about what they are of: what is checked here and what the server finds in them must be the same.

use std::path::PathBuf;

use tablecast::binlog::event::{Checksum, Event, kind};
use tablecast::binlog::name::TableSet;
use tablecast::binlog::query::QueryEvent;
use tablecast::stream::{Codec, Head};

use super::bombs::publish;
use super::kit::{LITTLE, Site, make_victim, pack};
use crate::apply::forge::{Forge, first_segment, open};
use crate::ops::kit::Ran;

/// The table map with other names, and what follows them changed.
fn map_of(event: &Event, schema: &[u8], table: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Event {
    let body = event.body();
    let schema_end = 9 + usize::from(body[8]) + 1;
    let table_end = schema_end + 1 + usize::from(body[schema_end]) + 1;
    let mut rest = body[table_end..].to_vec();
    change(&mut rest);
    let mut made = body[..8].to_vec();
    for name in [schema, table] {
        made.push(name.len() as u8);
        made.extend_from_slice(name);
        made.push(0);
    }
    made.extend(rest);
    Event::build(event.header(), &made, Checksum::Crc32)
}

struct Lies {
    forge: Forge,
    site: Site,
    config: PathBuf,
}

impl Lies {
    async fn of(schema: &'static str) -> Lies {
        let (forge, site) = (Forge::new(schema).await, Site::new());
        make_victim(&forge.region).await;
        let config = site.config(&forge.stream, &forge.region, &["@.apps"]);
        Lies { forge, site, config }
    }

    fn map(&self) -> &Event {
        self.forge.insert.iter().find(|event| event.kind() == kind::TABLE_MAP).unwrap()
    }

    /// The INSERT with these events in the place of its table map.
    fn insert_of(&self, maps: &[Event]) -> Vec<Event> {
        let events = self.forge.insert.iter();
        events
            .flat_map(
                |event| if event.kind() == kind::TABLE_MAP { maps.to_vec() } else { vec![event.clone()] },
            )
            .collect()
    }

    /// Applies what has been forged.
    fn apply(&self) -> Ran {
        self.site.put(&self.forge.stream);
        self.site.run(&self.config, "apply")
    }

    /// It is refused, with one of these codes, by its object, transaction or table, and nothing is other than before.
    async fn change_nothing(&self, what: &str, codes: &[i32]) {
        let (stream, region) = (&self.forge.stream, &self.forge.region);
        let before = (stream.state_of_stream(region).await, self.site.outside(region).await);
        self.site.put(stream);
        let watched = self.site.watch(&self.config, "apply");
        assert!(watched.peak < LITTLE, "{what}: {} KiB", watched.peak);
        let ran = watched.ran;
        assert!(codes.contains(&ran.code) && !ran.stderr.contains("panicked"), "{what}: {ran:?}");
        let table = format!("{}.apps", stream.schema);
        let names = ["segments/", "stream transaction 3 ", &table];
        assert!(names.iter().any(|name| ran.stderr.contains(name)), "{what}: {ran:?}");
        let after = (stream.state_of_stream(region).await, self.site.outside(region).await);
        assert_eq!(after, before, "{what}: nothing may change");
    }
}

/// I6.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_table_map_of_a_table_that_is_not_let_in_is_refused_whatever_its_name_looks_like() {
    let lies = Lies::of("sm_names").await;
    let schema = b"sm_names".as_slice();
    let long = vec![b'a'; 200];
    for (schema, table) in [
        (b"mysql".as_slice(), b"user".as_slice()),
        (b"mysql", b"global_grants"),
        (b"tablecast", b"position"),
        (b"sys", b"sys_config"),
        (b"performance_schema", b"setup_actors"),
        (b"information_schema", b"tables"),
        (schema, b"mine"),
        (schema, b"apps\0"),
        (schema, b"mine\0apps"),
        (b"sm_names\0", b"apps"),
        (schema, b""),
        (b"", b"apps"),
        (schema, b"`apps`"),
        (schema, b"apps`"),
        (schema, b" apps"),
        (schema, b"apps "),
        (schema, b"../sm_names/apps"),
        (schema, b"apps#p#p0"),
        (schema, b"#sql-1"),
        (schema, "\u{ff41}pps".as_bytes()),
        (schema, "app\u{17f}".as_bytes()),
        (schema, &long),
    ] {
        let lie = map_of(lies.map(), schema, table, |_| {});
        lies.forge.publish(&[lies.insert_of(&[lie])]);
        let what = format!("{:?}.{:?}", String::from_utf8_lossy(schema), String::from_utf8_lossy(table));
        lies.change_nothing(&what, &[15]).await;
    }
    // No UTF-8 at all.
    let lie = map_of(lies.map(), schema, b"\xff\xfe", |_| {});
    lies.forge.publish(&[lies.insert_of(&[lie])]);
    lies.change_nothing("no text", &[1, 15]).await;
}

/// I6: the columns of a let-in table, as somebody would like them to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_map_with_other_columns_than_the_region_s_changes_nothing() {
    let lies = Lies::of("sm_columns").await;
    let of = |change: &dyn Fn(&mut Vec<u8>)| map_of(lies.map(), b"sm_columns", b"apps", change);
    // Behind the names: 2 columns, INT and VARCHAR, 2 bytes of metadata, a byte of NULL bits.
    assert_eq!(of(&|_| {}).bytes(), lies.map().bytes());
    for (what, lie) in [
        ("an INT that is a BLOB", of(&|rest| rest[1] = 252)),
        ("an INT that is a JSON", of(&|rest| rest[1] = 245)),
        ("an INT that is a GEOMETRY", of(&|rest| rest[1] = 255)),
        ("a VARCHAR that is a DECIMAL", of(&|rest| rest[2] = 246)),
        ("a VARCHAR that is a VECTOR", of(&|rest| rest[2] = 242)),
        ("a type that is none", of(&|rest| rest[1] = 99)),
        ("a longer VARCHAR", of(&|rest| rest[4..6].copy_from_slice(&60_000_u16.to_le_bytes()))),
        ("one column", of(&|rest| rest[0] = 1)),
        ("three columns", of(&|rest| rest[0] = 3)),
        ("250 columns", of(&|rest| rest[0] = 250)),
        ("2^63 columns", of(&|rest| drop(rest.splice(0..1, [254, 255, 255, 255, 255, 255, 255, 255, 127])))),
        ("no column", of(&|rest| rest[0] = 0)),
        ("metadata without an end", of(&|rest| rest[3] = 250)),
        ("cut", of(&|rest| rest.truncate(3))),
        ("nothing behind the name", of(&|rest| rest.clear())),
    ] {
        lies.forge.publish(&[lies.insert_of(&[lie])]);
        lies.change_nothing(what, &[1, 15]).await;
    }
}

/// I6: of two tables under one number the server would take one, and what is checked here might be the other.
#[tokio::test(flavor = "multi_thread")]
async fn i6_two_table_maps_of_one_number_never_lead_to_a_table_that_is_not_let_in() {
    let lies = Lies::of("sm_numbers").await;
    let (stream, region) = (&lies.forge.stream, &lies.forge.region);
    let apps = lies.map().clone();
    let mine = map_of(&apps, b"sm_numbers", b"mine", |_| {});
    let user = map_of(&apps, b"mysql", b"user", |_| {});
    // As an index says of whose set `mine` is: it is read then, and passed over.
    let mut head = Head::parse(&lies.forge.index).unwrap();
    head.table_set.tables = TableSet::parse(&["sm_numbers.apps", "sm_numbers.mine"]).unwrap();
    let own = region.checksum("sm_numbers.mine").await;
    for maps in [vec![apps.clone(), user.clone()], vec![user, apps.clone()]] {
        lies.forge.publish(&[lies.insert_of(&maps)]);
        lies.change_nothing("user", &[15]).await;
    }
    // All rows under that number are passed over, also those of the table that is let in.
    let maps = [
        vec![apps.clone(), mine.clone()],
        vec![mine.clone(), apps.clone()],
        vec![mine.clone()],
        vec![apps.clone(), mine.clone(), apps.clone()],
    ];
    let before = lies.site.outside(region).await;
    let forged = lies.forge.extend(head, &maps.map(|maps| lies.insert_of(&maps)));
    std::fs::write(stream.bucket().join("index.json"), forged.to_json().unwrap()).unwrap();
    let ran = lies.apply().ends(0, &[]);
    assert_eq!(region.checksum("sm_numbers.mine").await, own, "{ran:?}");
    assert_eq!(region.value::<u64>("SELECT COUNT(*) FROM sm_numbers.apps").await, 1, "{ran:?}");
    assert_eq!(lies.site.outside(region).await, before, "{ran:?}");
}

/// I6: by what it says of lengths the server reads events; by fixed ones they are checked here.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_format_description_that_would_have_events_read_otherwise_is_refused() {
    let lies = Lies::of("sm_format").await;
    let mut sound = Vec::new();
    std::io::Read::read_to_end(&mut open(&first_segment(&lies.forge.stream)), &mut sound).unwrap();
    let size = u32::from_le_bytes(sound[13..17].try_into().unwrap()) as usize;
    let format = Event::from_bytes(sound[4..4 + size].to_vec(), Checksum::Crc32).unwrap();
    // Behind version, server version, time and header length.
    const LENGTHS: usize = 2 + 50 + 4 + 1;
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut body = format.body().to_vec();
        change(&mut body);
        let event = Event::build(format.header(), &body, Checksum::Crc32);
        [&sound[..4], event.bytes(), &sound[4 + size..]].concat()
    };
    let length = |kind: u8, length: u8| with(&|body| body[LENGTHS + usize::from(kind) - 1] = length);
    let version = |text: &str| {
        with(&|body| {
            body[2..52].fill(0);
            body[2..2 + text.len()].copy_from_slice(text.as_bytes());
        })
    };
    for (what, object) in [
        ("table maps with short numbers", length(kind::TABLE_MAP, 6)),
        ("table maps that are not written", length(kind::TABLE_MAP, 0)),
        ("rows with short numbers", length(kind::WRITE_ROWS, 6)),
        ("rows without extra data", length(kind::WRITE_ROWS, 8)),
        ("rows that are not written", length(kind::WRITE_ROWS, 0)),
        ("updates that are not written", length(kind::UPDATE_ROWS, 0)),
        ("rows of which it says nothing", with(&|body| drop(body.splice(LENGTHS + 20..body.len() - 1, [])))),
        ("an old server", version("5.1.1-a_drop5p20")),
        ("an older one", version("4.1.0")),
        ("no version", version("")),
        ("no number", version("mariadb")),
        ("another header", with(&|body| body[LENGTHS - 1] = 27)),
        ("another format", with(&|body| body[0] = 3)),
        ("no checksum", with(&|body| *body.last_mut().unwrap() = 0)),
    ] {
        publish(&lies.forge, Codec::Gzip, &pack(Codec::Gzip, &object), object.len());
        lies.change_nothing(what, &[1]).await;
    }
}

/// I6: what a statement says of its session is set for it alone, and only what a server writes.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_session_that_no_server_writes_is_not_taken_over() {
    let lies = Lies::of("sm_session").await;
    let forge = &lies.forge;
    let with = |more: &[u8]| {
        let mut query = QueryEvent::parse_body(forge.alter.body()).unwrap();
        query.status.raw.extend(more);
        query.text = b"ALTER TABLE sm_session.apps COMMENT 'hostile'".to_vec();
        vec![Event::build(forge.alter.header(), &query.encode_body(), Checksum::Crc32)]
    };
    // Q_TIME_ZONE_CODE.
    let zone = |zone: &str| [&[5, zone.len() as u8], zone.as_bytes()].concat();
    for zone in ["'; DROP DATABASE sm_session; -- ", "+00:00', GLOBAL super_read_only=1, @a='", "\\'", "a`b"]
        .map(zone)
    {
        forge.publish(&[with(&zone)]);
        lies.change_nothing(&format!("{zone:?}"), &[1, 15]).await;
    }
    for more in [
        // A code that no server has, one that is cut, character sets and a locale that are none.
        &[200_u8, 1, 2][..],
        &[1, 2],
        &[4, 255, 255, 255, 255, 255, 255],
        &[7, 255, 255],
    ] {
        forge.publish(&[with(more)]);
        lies.change_nothing(&format!("{more:?}"), &[1, 15]).await;
    }
    let default_schema = |schema: &[u8]| {
        let mut query = QueryEvent::parse_body(forge.alter.body()).unwrap();
        query.schema = schema.to_vec();
        query.text = b"ALTER TABLE apps COMMENT 'hostile'".to_vec();
        vec![Event::build(forge.alter.header(), &query.encode_body(), Checksum::Crc32)]
    };
    for schema in
        [b"mysql".as_slice(), b"sm_session`; DROP TABLE sm_session.mine; -- ", b"sm_session\0x", b"", b"\xff"]
    {
        forge.publish(&[default_schema(schema)]);
        lies.change_nothing(&format!("{schema:?}"), &[1, 15]).await;
    }
}
