SET SESSION div_precision_increment = 12, default_week_format = 5, lc_time_names = 'fr_FR', group_concat_max_len = 20, sql_auto_is_null = 1;
CREATE TABLE t AS SELECT 1 / 3 AS d, WEEK('2024-01-06') AS w, DATE_FORMAT('2024-01-06', '%W %M') AS names, GROUP_CONCAT(n) AS g FROM (WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n+1 FROM s WHERE n < 9) SELECT n FROM s) x;
ALTER TABLE t ADD id INT PRIMARY KEY DEFAULT 1 FIRST, ADD month_name VARCHAR(30) DEFAULT (MONTHNAME('2024-02-01'));
INSERT INTO t (id) VALUES (2);
SET SESSION lc_time_names = 'ja_JP';
ALTER TABLE t ADD m2 VARCHAR(30) DEFAULT (MONTHNAME('2024-03-01'));
INSERT INTO t (id) VALUES (3);
CREATE TABLE u AS SELECT 1 / 3 AS d;
