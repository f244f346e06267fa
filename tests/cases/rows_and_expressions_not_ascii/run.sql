SET NAMES utf8mb4;
CREATE TABLE t (id INT PRIMARY KEY, `größe` VARCHAR(20), g VARCHAR(20) AS (CONCAT('é', `größe`)) STORED,
  v VARCHAR(20) AS (REPLACE(`größe`, 'ü', '日本')) VIRTUAL, d VARCHAR(20) DEFAULT (CONCAT('ß', '☃')),
  KEY (v), KEY f ((CONCAT(`größe`, 'ñ'))), CHECK (`größe` <> 'verböten'));
CREATE TABLE u (k VARCHAR(10) COLLATE utf8mb4_bin, n INT) PARTITION BY LIST COLUMNS (k)
  (PARTITION `ä` VALUES IN ('ä', 'ö'), PARTITION rest VALUES IN ('é', '日'));
INSERT INTO t (id, `größe`) VALUES (1, 'fünf'), (2, 'müde');
INSERT INTO u VALUES ('ä', 1), ('日', 2);
UPDATE t SET `größe` = 'zwölf' WHERE id = 1;
START TRANSACTION;
INSERT INTO t (id, `größe`) VALUES (3, 'später');
SAVEPOINT `schön 日本`;
INSERT INTO u VALUES ('ö', 3);
ROLLBACK TO `schön 日本`;
INSERT INTO u VALUES ('é', 4);
COMMIT;
SET NAMES latin1;
INSERT INTO t (id, d) VALUES (4, 'x');
START TRANSACTION;
UPDATE t SET d = 'y' WHERE id = 4;
SAVEPOINT `d�j�`;
DELETE FROM t WHERE id = 1;
ROLLBACK TO `d�j�`;
DELETE FROM t WHERE id = 2;
COMMIT;
SET NAMES gbk;
UPDATE t SET d = CONCAT(d, '��') WHERE id = 1;
START TRANSACTION;
INSERT INTO t (id) VALUES (5);
SAVEPOINT s;
DELETE FROM t;
ROLLBACK TO s;
UPDATE t SET id = 6 WHERE id = 5;
COMMIT;
