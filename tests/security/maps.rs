//! Events that lie about what they are of: what is checked here and what the server finds in them must be the same.

use tablecast::binlog::event::{Checksum, Event, kind};
use tablecast::stream::{Body, Codec, Head, Key, Md5, SegmentEntry};

use crate::apply::forge::{Forge, first_segment, open};

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

/// A segment's object in an entry that is in order.
fn publish(forge: &Forge, codec: Codec, object: &[u8], raw_size: u64) {
    let mut head = Head::parse(&forge.index).unwrap();
    let first = head.last_tx.next();
    let now = head.as_of;
    let key = Key::segment(first, first, now, codec);
    std::fs::write(forge.stream.bucket().join(key.as_str()), object).unwrap();
    let mut covered_after = head.covered.clone();
    covered_after.extend(&"00000000-0000-0000-0000-000000000001:1".parse().unwrap());
    let entry = SegmentEntry {
        key,
        size: object.len() as u64,
        md5: Md5::of(object),
        raw_size,
        codec,
        first_tx: first,
        last_tx: first,
        count: 1,
        tables: vec![format!("{}.apps", forge.stream.schema).parse().unwrap()],
        covered_before: head.covered.clone(),
        covered_after,
        first_commit: now,
        last_commit: now,
        definitions: Vec::new(),
    };
    head.append(Body::Segment(entry), now).unwrap();
    std::fs::write(forge.stream.bucket().join("index.json"), head.to_json().unwrap()).unwrap();
}

struct Lies(Forge);

impl Lies {
    async fn of(schema: &'static str) -> Lies {
        Lies(Forge::new(schema).await)
    }

    fn map(&self) -> &Event {
        self.0.insert.iter().find(|event| event.kind() == kind::TABLE_MAP).unwrap()
    }

    /// The INSERT with these events in the place of its table map.
    fn insert_of(&self, maps: &[Event]) -> Vec<Event> {
        let events = self.0.insert.iter();
        events
            .flat_map(
                |event| if event.kind() == kind::TABLE_MAP { maps.to_vec() } else { vec![event.clone()] },
            )
            .collect()
    }

    /// It is refused, whatever with, and nothing is other than before.
    async fn change_nothing(&self, what: &str, codes: &[u8]) {
        let (stream, region) = (&self.0.stream, &self.0.region);
        let before = stream.state(region).await;
        let error = self.0.apply().await.expect_err(what);
        assert!(codes.contains(&error.kind().exit_code()), "{what}: {error:?}");
        assert_eq!(stream.state(region).await, before, "{what}: nothing may change");
    }
}

/// I6.
#[tokio::test]
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
        lies.0.publish(&[lies.insert_of(&[lie])]);
        let what = format!("{:?}.{:?}", String::from_utf8_lossy(schema), String::from_utf8_lossy(table));
        lies.change_nothing(&what, &[15]).await;
    }
    // No UTF-8 at all.
    let lie = map_of(lies.map(), schema, b"\xff\xfe", |_| {});
    lies.0.publish(&[lies.insert_of(&[lie])]);
    lies.change_nothing("no text", &[1, 15]).await;
}

/// I6: the columns of a let-in table, as somebody would like them to be.
#[tokio::test]
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
        lies.0.publish(&[lies.insert_of(&[lie])]);
        lies.change_nothing(what, &[1, 15]).await;
    }
}

/// I6: by what it says of lengths the server reads events; by fixed ones they are checked here.
#[tokio::test]
async fn i6_a_format_description_that_would_have_events_read_otherwise_is_refused() {
    let lies = Lies::of("sm_format").await;
    let mut sound = Vec::new();
    std::io::Read::read_to_end(&mut open(&first_segment(&lies.0.stream)), &mut sound).unwrap();
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
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &object).unwrap();
        publish(&lies.0, Codec::Gzip, &gzip.finish().unwrap(), object.len() as u64);
        lies.change_nothing(what, &[1]).await;
    }
}
