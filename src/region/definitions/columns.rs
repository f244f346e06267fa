//! A table map against the region's own columns: as many, in the same order, of the same types.
//!
//! The second line behind the comparison of definitions, for tables whose definition the stream does not know at
//! this point. Types: `Table_map_event` in libs/mysql/binlog/event/rows_event.h; sizes are compared where a table
//! map has them.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::binlog::event::ColumnType;
use crate::binlog::name::TableName;
use crate::{Error, Kind, Result, mysql};

const COLUMNS: &str = include_str!("../../../sql/region/columns.sql");

/// A column as information_schema describes it.
#[derive(Debug)]
struct Column {
    name: String,
    data_type: String,
    octets: u64,
    precision: u64,
    scale: u64,
    fraction: u64,
    unsigned: bool,
}

/// Refuses (`Kind::Definition`) a table that is missing or whose columns are not those of the row images.
pub async fn check_columns(conn: &mut Conn, table: &TableName, mapped: &[ColumnType]) -> Result<()> {
    let rows: Vec<(String, String, u64, u64, u64, u64, bool)> = conn
        .exec(COLUMNS, (&table.schema, &table.table))
        .await
        .map_err(|error| mysql::error(error, &format!("read the columns of {table}")))?;
    let columns =
        rows.into_iter().map(|(name, data_type, octets, precision, scale, fraction, unsigned)| Column {
            name,
            data_type: data_type.to_ascii_lowercase(),
            octets,
            precision,
            scale,
            fraction,
            unsigned,
        });
    compare(table, &columns.collect::<Vec<_>>(), mapped)
}

fn compare(table: &TableName, columns: &[Column], mapped: &[ColumnType]) -> Result<()> {
    let refuse = |why: String| {
        Err(Error::new(Kind::Definition, format!("check {table}: {why}")).hint(format!(
            "nothing was changed; make {table} what it is at the source (SHOW CREATE TABLE there), or copy it again"
        )))
    };
    if columns.is_empty() {
        return refuse("this region does not have it, and the stream changes rows of it".to_owned());
    }
    if columns.len() != mapped.len() {
        return refuse(format!("it has {} columns here, and {} at the source", columns.len(), mapped.len()));
    }
    for (number, (column, mapped)) in columns.iter().zip(mapped).enumerate() {
        if !fits(column, mapped) {
            let Column { name, data_type, .. } = column;
            let (code, metadata) = (mapped.type_code, mapped.metadata);
            return refuse(format!(
                "column {} ({name}) is {data_type} here, and of another type or size at the source (type {code}, \
                 metadata {metadata:#06x})",
                number + 1
            ));
        }
    }
    Ok(())
}

fn fits(column: &Column, mapped: &ColumnType) -> bool {
    let [low, high] = mapped.metadata.to_le_bytes();
    let fraction = u64::from(low) == column.fraction;
    let is_numeric = matches!(mapped.type_code, 1..=5 | 8 | 9 | 246);
    if is_numeric && mapped.unsigned.is_some_and(|unsigned| unsigned != column.unsigned) {
        return false;
    }
    match (mapped.type_code, column.data_type.as_str()) {
        (1, "tinyint") | (2, "smallint") | (3, "int") | (8, "bigint") | (9, "mediumint") => true,
        (4, "float") | (5, "double") | (13, "year") | (10 | 14, "date") => true,
        // TIMESTAMP2, DATETIME2, TIME2; before them the types of MySQL 5.5, which have no fraction.
        (17, "timestamp") | (18, "datetime") | (19, "time") => fraction,
        (7, "timestamp") | (12, "datetime") | (11, "time") => column.fraction == 0,
        (15 | 253, "varchar" | "varbinary") => u64::from(mapped.metadata) == column.octets,
        // Bits over whole bytes, whole bytes.
        (16, "bit") => u64::from(low) + u64::from(high) * 8 == column.precision,
        (246, "decimal") => (u64::from(low), u64::from(high)) == (column.precision, column.scale),
        (245, "json") => true,
        // The low byte of a STRING's metadata is the real type; of a CHAR, with the two high bits of its length.
        (254, "enum") => low == 247,
        (254, "set") => low == 248,
        (254, "char" | "binary") => {
            let length = u64::from(high) | (u64::from(low & 0x30) ^ 0x30) << 4;
            low != 247 && low != 248 && length == column.octets
        }
        (252, "tinyblob" | "tinytext") => low == 1,
        (252, "blob" | "text") => low == 2,
        (252, "mediumblob" | "mediumtext") => low == 3,
        (252, "longblob" | "longtext") => low == 4,
        (255, "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring") => true,
        (255, "multipolygon" | "geomcollection" | "geometrycollection") => true,
        (242, "vector") => true,
        // A type that this version does not know: as long as nobody here claims another one.
        (code, _) => !matches!(code, 1..=19 | 242 | 245..=255),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(data_type: &str) -> Column {
        Column {
            name: "c".into(),
            data_type: data_type.into(),
            octets: 80,
            precision: 10,
            scale: 2,
            fraction: 0,
            unsigned: false,
        }
    }

    fn mapped(type_code: u8, metadata: u16) -> ColumnType {
        ColumnType { type_code, metadata, nullable: true, unsigned: None }
    }

    fn table() -> TableName {
        TableName::new("g", "apps")
    }

    #[test]
    fn columns_of_the_same_types_fit() {
        let columns = ["int", "varchar", "decimal", "enum", "text", "datetime"].map(column);
        let map = [(3, 0), (15, 80), (246, 0x020a), (254, 0x01f7), (252, 2), (18, 0)];
        compare(&table(), &columns, &map.map(|(code, metadata)| mapped(code, metadata))).unwrap();
    }

    #[test]
    fn a_swapped_a_wider_and_a_missing_column_are_refused() {
        let columns = ["int", "varchar"].map(column);
        for map in [vec![(15, 80), (3, 0)], vec![(3, 0), (15, 320)], vec![(3, 0)]] {
            let map: Vec<_> = map.into_iter().map(|(code, metadata)| mapped(code, metadata)).collect();
            assert_eq!(compare(&table(), &columns, &map).unwrap_err().kind(), Kind::Definition);
        }
    }

    #[test]
    fn a_column_that_lost_its_sign_or_grew_is_refused() {
        let unsigned = ColumnType { unsigned: Some(true), ..mapped(3, 0) };
        assert!(!fits(&column("int"), &unsigned));
        assert!(fits(&Column { unsigned: true, ..column("int") }, &unsigned));
        // CHAR(20) and CHAR(200) of four bytes each: the length's high bits are in the type's byte.
        assert!(fits(&column("char"), &mapped(254, 0x50fe)));
        assert!(fits(&Column { octets: 800, ..column("char") }, &mapped(254, 0x20ce)));
        assert!(!fits(&column("char"), &mapped(254, 0x20ce)));
    }

    #[test]
    fn a_missing_table_is_refused_by_name() {
        let error = compare(&table(), &[], &[mapped(3, 0)]).unwrap_err();
        assert!(error.to_string().contains("g.apps: this region does not have it"), "{error}");
    }
}
