CREATE TABLE t (id INT PRIMARY KEY, j JSON, d JSON DEFAULT (JSON_OBJECT('a', 1)));
INSERT INTO t (id, j) VALUES (1, 'null'), (2, 'true'), (3, 'false'), (4, '0'), (5, '-9223372036854775808'), (6, '18446744073709551615'), (7, '1.7976931348623157e308'),
 (8, '"text with \\"quotes\\" and \\u0000 and 😀"'), (9, '[]'), (10, '{}'), (11, '[1,[2,[3,[4,[5]]]]]'), (12, NULL);
INSERT INTO t (id, j) VALUES (13, CAST(CAST('2024-02-29 01:02:03.456789' AS DATETIME(6)) AS JSON)), (14, CAST(CAST('-838:59:59' AS TIME) AS JSON)), (15, CAST(1234567890.123456789 AS JSON)),
 (16, JSON_OBJECT('blob', CAST(x'00FF' AS BINARY), 'd', CAST('2024-01-01' AS DATE), 'dec', CAST(0.1 AS DECIMAL(65,30)))),
 (17, JSON_ARRAY(1, 'two', NULL, TRUE, 3.5, JSON_OBJECT('k', JSON_ARRAY()))), (18, '{"": "empty key", "ключ": "значение"}');
INSERT INTO t (id, j) SELECT 19, JSON_OBJECT('big', REPEAT('x', 100000), 'arr', (SELECT JSON_ARRAYAGG(n) FROM (WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n+1 FROM s WHERE n < 500) SELECT n FROM s) x));
UPDATE t SET j = JSON_SET(j, '$[1]', 'changed') WHERE id = 11;
UPDATE t SET j = '{"replaced": true}', d = NULL WHERE id = 10;
DELETE FROM t WHERE id = 9;
