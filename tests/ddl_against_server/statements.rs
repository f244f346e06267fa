//! Statements that must not stop upload, and such that must (I3), as a real server logs them.

use tablecast::Kind;

use super::temporary_tables::filtered;
use crate::support::mysql::Server;

const CHECKSUM: &str = "REPLACE INTO `p`.`checksums` (db, tbl, chunk, chunk_index, lower_boundary, \
     upper_boundary, this_cnt, this_crc) SELECT 'g', 'apps', '1', NULL, NULL, NULL, COUNT(*) AS cnt, \
     COALESCE(LOWER(CONV(BIT_XOR(CAST(CRC32(CONCAT_WS('#', `a`, CONCAT(ISNULL(`a`)))) AS UNSIGNED)), 10, 16)), 0) \
     AS crc FROM `g`.`apps` FORCE INDEX(`PRIMARY`) WHERE ((`a` >= '1')) /*checksum chunk*/";

#[tokio::test]
async fn i3_statements_elsewhere_stop_the_stream_only_where_they_could_change_the_set() {
    let server = Server::start(&[]);
    server
        .sql(
            "CREATE DATABASE g; CREATE TABLE g.apps (a INT PRIMARY KEY); INSERT INTO g.apps VALUES (1), (2); \
             CREATE DATABASE p; CREATE TABLE p.checksums (db CHAR(64), tbl CHAR(64), chunk INT, chunk_index \
             VARCHAR(200), lower_boundary TEXT, upper_boundary TEXT, this_crc CHAR(40), this_cnt INT, master_crc \
             CHAR(40), PRIMARY KEY (db, tbl, chunk)); CREATE TABLE p.t (a INT PRIMARY KEY); CREATE TABLE p.hooked \
             (a INT PRIMARY KEY); CREATE TRIGGER p.hook AFTER INSERT ON p.hooked FOR EACH ROW INSERT INTO g.apps \
             VALUES (NEW.a); CREATE VIEW p.seen AS SELECT * FROM g.apps; CREATE VIEW g.seen AS SELECT 1 AS a; \
             CREATE TABLE p.parent (a INT PRIMARY KEY); CREATE TABLE g.child (a INT PRIMARY KEY, FOREIGN KEY (a) \
             REFERENCES p.parent (a) ON DELETE CASCADE); INSERT INTO p.parent VALUES (1)",
        )
        .await;
    for foreign in [
        CHECKSUM,
        "UPDATE p.checksums SET master_crc = 'x' WHERE db = 'g' AND tbl = 'apps'",
        "INSERT INTO p.t VALUES (1)",
        "CREATE TABLE IF NOT EXISTS apps (other INT)",
    ] {
        let kept = filtered(&server, &format!("SET binlog_format=STATEMENT; {foreign}")).await;
        assert_eq!(kept.unwrap(), 0, "{foreign}");
    }
    for doubtful in [
        "INSERT INTO p.t SELECT a + 10 FROM apps",
        "INSERT INTO p.hooked VALUES (70)",
        "INSERT INTO p.seen VALUES (80)",
        "DELETE FROM p.parent WHERE a = 1",
    ] {
        let error = filtered(&server, &format!("SET binlog_format=STATEMENT; {doubtful}")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Gate, "{doubtful}: {error}");
    }
    assert_eq!(filtered(&server, "CREATE TABLE IF NOT EXISTS copy (a INT PRIMARY KEY)").await.unwrap(), 1);
    assert_eq!(filtered(&server, "DROP TABLE copy; CREATE TABLE copy LIKE apps").await.unwrap(), 2);
    for harmless in ["SECONDARY_ENGINE=NULL", "TABLESPACE=innodb_file_per_table", "ENGINE=innodb"] {
        assert_eq!(
            filtered(&server, &format!("ALTER TABLE apps {harmless}")).await.unwrap(),
            1,
            "{harmless}"
        );
    }
    for outside in ["TABLESPACE=innodb_system", "SECONDARY_ENGINE=RAPID"] {
        let error = filtered(&server, &format!("ALTER TABLE copy {outside}")).await.unwrap_err();
        assert!(error.to_string().contains("g.copy, which is in the table set, reaches outside"), "{error}");
    }
}
