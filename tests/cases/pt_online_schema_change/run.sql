CREATE TABLE apps (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20), made TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP);
INSERT INTO apps (name) SELECT CONCAT('app ', n) FROM (WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n+1 FROM s WHERE n < 300) SELECT n FROM s) x;
CREATE TABLE `c_pt_online_schema_change`.`_apps_new` LIKE apps;
ALTER TABLE `c_pt_online_schema_change`.`_apps_new` ADD COLUMN region VARCHAR(8) NOT NULL DEFAULT 'all', MODIFY name VARCHAR(100);
DELIMITER //
CREATE TRIGGER `pt_osc_c_apps_del` AFTER DELETE ON apps FOR EACH ROW BEGIN DELETE IGNORE FROM _apps_new WHERE _apps_new.id <=> OLD.id; END//
CREATE TRIGGER `pt_osc_c_apps_upd` AFTER UPDATE ON apps FOR EACH ROW BEGIN DELETE IGNORE FROM _apps_new WHERE !(OLD.id <=> NEW.id) AND _apps_new.id <=> OLD.id; REPLACE INTO _apps_new (id, name, made) VALUES (NEW.id, NEW.name, NEW.made); END//
CREATE TRIGGER `pt_osc_c_apps_ins` AFTER INSERT ON apps FOR EACH ROW BEGIN REPLACE INTO _apps_new (id, name, made) VALUES (NEW.id, NEW.name, NEW.made); END//
DELIMITER ;
INSERT LOW_PRIORITY IGNORE INTO _apps_new (id, name, made) SELECT id, name, made FROM apps FORCE INDEX (PRIMARY) WHERE id <= 150 LOCK IN SHARE MODE /* pt-online-schema-change copy nibble */;
UPDATE apps SET name = 'live update' WHERE id IN (10, 200);
DELETE FROM apps WHERE id IN (20, 220);
INSERT INTO apps (name) VALUES ('live insert');
INSERT LOW_PRIORITY IGNORE INTO _apps_new (id, name, made) SELECT id, name, made FROM apps FORCE INDEX (PRIMARY) WHERE id > 150 LOCK IN SHARE MODE;
ANALYZE TABLE `_apps_new` /* pt-online-schema-change */;
RENAME TABLE apps TO _apps_old, _apps_new TO apps;
UPDATE apps SET region = 'eu' WHERE id = 1;
DROP TABLE IF EXISTS `_apps_old`;
DROP TRIGGER IF EXISTS pt_osc_c_apps_del;
DROP TRIGGER IF EXISTS pt_osc_c_apps_upd;
DROP TRIGGER IF EXISTS pt_osc_c_apps_ins;
INSERT INTO apps (name) VALUES ('after');
