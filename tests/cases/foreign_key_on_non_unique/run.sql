SET SESSION restrict_fk_on_non_standard_key = OFF;
CREATE TABLE parent (id INT PRIMARY KEY, k INT, KEY (k));
CREATE TABLE child (id INT PRIMARY KEY, k INT, FOREIGN KEY (k) REFERENCES parent (k));
INSERT INTO parent VALUES (1, 5), (2, 5);
INSERT INTO child VALUES (1, 5);
ALTER TABLE child ADD v INT;
UPDATE child SET v = 1;
