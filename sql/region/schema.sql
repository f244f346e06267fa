-- What Tablecast keeps in a region's server. Replicated to the region's own replicas like any other table.
CREATE DATABASE IF NOT EXISTS tablecast DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- How far this region has come in each stream. One row a stream, rewritten after each entry.
CREATE TABLE IF NOT EXISTS tablecast.position (
  name          VARCHAR(255)    NOT NULL COMMENT 'the stream as the config names it',
  stream        CHAR(36)        NOT NULL COMMENT 'its UUID, which is also that of its GTIDs',
  store         VARCHAR(1024)   NOT NULL COMMENT 'the bucket and prefix that head_etag belongs to',
  seq           BIGINT UNSIGNED NOT NULL COMMENT 'the last entry applied',
  chain         CHAR(64)        NOT NULL COMMENT 'its chain value: an index without it is refused',
  last_tx       BIGINT UNSIGNED NOT NULL COMMENT 'the last stream transaction of that entry',
  covered       LONGTEXT        NOT NULL COMMENT 'the source transactions that this region shows, or that do not travel',
  as_of         DATETIME(6)     NULL     COMMENT 'UTC, the source''s clock: complete up to here',
  applied_at    DATETIME(6)     NOT NULL COMMENT 'UTC, the clock of the machine that runs apply',
  head_etag     VARCHAR(1024)   NULL     COMMENT 'the head that this region has wholly applied',
  last_error    LONGTEXT        NULL,
  last_error_at DATETIME(6)     NULL     COMMENT 'UTC',
  PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
