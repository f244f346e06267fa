CREATE TABLE t (
  id INT PRIMARY KEY,
  a VARCHAR(40) DEFAULT 'line one
line two' COMMENT 'comment
with CR LF',
  b VARCHAR(20) -- dash comment
  , c VARCHAR(20) DEFAULT ''
)
COMMENT = 'table
comment';
INSERT INTO t (id) VALUES (1);
ALTER TABLE t
  ADD d VARCHAR(20) DEFAULT 'x
' # hash
, ADD e ENUM('a
b', '
', '') DEFAULT 'a
b';
INSERT INTO t (id) VALUES (2);
INSERT INTO t (id, a) VALUES (3, 'data
with CR LF');
ALTER TABLE t ALTER COLUMN a SET DEFAULT '

', ADD g VARCHAR(10) AS (CONCAT(id, '
')) STORED;
INSERT INTO t (id) VALUES (4);
