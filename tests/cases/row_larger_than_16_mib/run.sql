CREATE TABLE t (id INT PRIMARY KEY, small VARCHAR(20), big LONGBLOB, txt LONGTEXT);
INSERT INTO t VALUES (1, 'small', 'x', 'y');
INSERT INTO t VALUES (2, 'big', REPEAT(x'00FF10', 6000000), REPEAT('é', 1000));
UPDATE t SET big = CONCAT(big, 'tail') WHERE id = 2;
UPDATE t SET small = 'changed' WHERE id = 2;
INSERT INTO t VALUES (3, 'after', 'x', NULL);
