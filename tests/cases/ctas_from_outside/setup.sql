CREATE TABLE private (id INT PRIMARY KEY, v VARCHAR(10));
INSERT INTO private VALUES (1, 'one'), (2, 'two');
