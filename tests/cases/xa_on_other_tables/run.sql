CREATE TABLE t (id INT PRIMARY KEY, v INT);
INSERT INTO t VALUES (1, 1);
XA START 'gtrid', 'bqual', 7;
INSERT INTO private VALUES (1, 'xa');
XA END 'gtrid', 'bqual', 7;
XA PREPARE 'gtrid', 'bqual', 7;
-- session 2
INSERT INTO t VALUES (2, 2);
-- session 1
XA COMMIT 'gtrid', 'bqual', 7;
XA START 'one phase';
UPDATE private SET v = 'one' WHERE id = 1;
XA END 'one phase';
XA COMMIT 'one phase' ONE PHASE;
XA START 'gone';
DELETE FROM private;
XA END 'gone';
XA PREPARE 'gone';
XA ROLLBACK 'gone';
UPDATE t SET v = 20 WHERE id = 2;
