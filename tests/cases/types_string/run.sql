SET NAMES utf8mb4;
CREATE TABLE t (
  id INT PRIMARY KEY,
  c CHAR(10), c0 CHAR(0), cb CHAR(10) BINARY, v VARCHAR(255), v2 VARCHAR(8000), vx VARCHAR(0),
  tt TINYTEXT, tx TEXT, mt MEDIUMTEXT, lt LONGTEXT,
  bn BINARY(8), vb VARBINARY(300), tb TINYBLOB, bl BLOB, mb MEDIUMBLOB, lb LONGBLOB,
  e ENUM('a','b b','it''s','','ümlaut','日本'), s SET('a','b','c','d e','é'),
  vl VARCHAR(50) CHARACTER SET latin1, va VARCHAR(50) CHARACTER SET ascii, u16 VARCHAR(50) CHARACTER SET utf16,
  u32 VARCHAR(50) CHARACTER SET utf32, sj VARCHAR(50) CHARACTER SET sjis, gb VARCHAR(50) CHARACTER SET gbk,
  g18 VARCHAR(50) CHARACTER SET gb18030, uj VARCHAR(50) CHARACTER SET ujis, k8 VARCHAR(50) CHARACTER SET koi8r,
  ci VARCHAR(50) COLLATE utf8mb4_0900_ai_ci, cs VARCHAR(50) COLLATE utf8mb4_0900_as_cs, ub VARCHAR(50) COLLATE utf8mb4_bin
);
INSERT INTO t (id, c, c0, cb, v, v2, vx) VALUES (1, 'x', '', 'B', REPEAT('é', 255), REPEAT('😀', 8000), ''), (2, '  lead', NULL, 'trail   ', 'trail   ', '', NULL);
INSERT INTO t (id, tt, tx, mt, lt) VALUES (3, REPEAT('t', 255), REPEAT('x', 65535), REPEAT('m', 70000), REPEAT('l', 200000)), (4, '', '', '', '');
INSERT INTO t (id, bn, vb, tb, bl, mb, lb) VALUES (5, x'0001020304', x'00FF0027225C0A0D1A', x'00', x'DEADBEEF00', REPEAT(x'00', 70000), REPEAT(x'FF00', 50000)), (6, x'', x'', x'', x'', x'', x'');
INSERT INTO t (id, e, s) VALUES (7, 'a', ''), (8, '', 'a,b,c,d e,é'), (9, 'it''s', 'é'), (10, 'ümlaut', 'a,é'), (11, '日本', 'b'), (12, NULL, NULL);
INSERT INTO t (id, vl, va, u16, u32, sj, gb, g18, uj, k8) VALUES (13, 'Ünïcödé €', 'plain', '日本 😀', '日本 😀', '表示 ソース', '中文 誠', '中文 😀 誠', '日本語', 'Привет');
INSERT INTO t (id, ci, cs, ub) VALUES (14, 'Straße', 'STRASSE', 'straße'), (15, 'a\0b\\c\'d\"e\nf\rg\Zh', 'a''b', '`;--/* */#');
UPDATE t SET v = CONCAT(v, ' '), c = UPPER(c) WHERE id = 2;
UPDATE t SET sj = CONCAT(sj, '十'), e = 'b b', s = 'c' WHERE id = 13;
UPDATE t SET lb = NULL, mb = CONCAT(mb, x'01') WHERE id = 5;
DELETE FROM t WHERE id = 4;
