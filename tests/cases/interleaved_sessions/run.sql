CREATE TABLE t (id INT PRIMARY KEY, v INT);
INSERT INTO t SELECT n, 0 FROM (WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n+1 FROM s WHERE n < 20) SELECT n FROM s) x;
BEGIN;
UPDATE t SET v = 1 WHERE id = 1;
-- session 2
BEGIN;
UPDATE t SET v = 2 WHERE id = 2;
-- session 3
SET SESSION binlog_transaction_compression = ON;
BEGIN;
UPDATE t SET v = 3 WHERE id = 3;
-- session 2
UPDATE t SET v = 22 WHERE id = 5;
COMMIT;
-- session 1
UPDATE t SET v = v + 10 WHERE id = 5;
-- session 3
COMMIT;
-- session 1
COMMIT;
-- session 2
SET SESSION time_zone = '+03:00', sql_mode = 'ANSI_QUOTES';
ALTER TABLE t ADD "x" TIMESTAMP NOT NULL DEFAULT '2024-01-01 00:00:00';
-- session 3
ALTER TABLE t ADD y VARCHAR(5) DEFAULT "z";
-- session 1
INSERT INTO t (id, v) VALUES (100, 100);
-- session 2
INSERT INTO t (id, v) VALUES (101, 101);
