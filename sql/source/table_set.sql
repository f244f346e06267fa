-- What Tablecast keeps on the server that is written to: every version of each stream's table set. Rows are only ever
-- inserted, by `tablecast stream init` and `tablecast tables`. Upload reads them in the source's binlog, so that each
-- change of the set has its exact place in the stream. The first six columns are read by their order.
CREATE TABLE IF NOT EXISTS tablecast.table_set (
  stream     VARCHAR(190)    NOT NULL COMMENT 'the stream as people call it',
  uuid       CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'its UUID',
  version    BIGINT UNSIGNED NOT NULL COMMENT '1 at stream init, one more with every change',
  tables     LONGTEXT        NOT NULL COMMENT 'JSON: names and patterns, the whole set from here on',
  added      LONGTEXT        NOT NULL COMMENT 'JSON: tables that come in and are there, with their definitions',
  removed    LONGTEXT        NOT NULL COMMENT 'JSON: names and patterns that go out',
  changed_by VARCHAR(400)    NULL     COMMENT 'the account that made the change',
  changed_at DATETIME(6)     NOT NULL COMMENT 'UTC',
  reason     TEXT            NULL,
  PRIMARY KEY (uuid, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
