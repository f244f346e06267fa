-- What gh-ost 1.1 (github/gh-ost, built from source) sent to a MySQL 9.7.4 primary during one whole online migration of c_ghost_migration.apps
-- (ADD COLUMN, MODIFY, ADD INDEX) while an application wrote to the table; taken from the server's general log and flattened
-- to one connection in commit order. LOCK/UNLOCK TABLES of the cut-over, which leave no trace in the binlog, are left out.
-- The result must be: c_ghost_migration.apps with the new definition, c_ghost_migration._apps_del the old one, no other table.
USE c_ghost_migration;
SET SESSION explicit_defaults_for_timestamp=1;
create table c_ghost_migration.apps (id bigint unsigned not null auto_increment primary key, name varchar(80) not null, status enum('draft','live','gone') not null default 'draft', created_at timestamp not null default current_timestamp, updated_at timestamp not null default current_timestamp on update current_timestamp, price decimal(12,4), meta json, key(status));
insert into c_ghost_migration.apps(name,status,price,meta) select concat('app ',n), elt(1+n%3,'draft','live','gone'), n*1.2345, json_object('n',n) from (with recursive s as (select 1 n union all select n+1 from s where n<900) select n from s) x;
-- app
insert into c_ghost_migration.apps(name,price) values('live 1',1);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=7;
-- app
delete from c_ghost_migration.apps where id=14;
-- gh-ost
drop /* gh-ost */ table if exists `c_ghost_migration`.`_apps_ghc`;
-- gh-ost
create /* gh-ost */ table `c_ghost_migration`.`_apps_ghc` (
  id bigint unsigned auto_increment,
  last_update timestamp not null DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  hint varchar(64) charset ascii not null,
  value varchar(4096) charset ascii not null,
  primary key(id),
  unique key hint_uidx(hint)
  ) auto_increment=256 comment='gh-ost changelog';
-- gh-ost
SET @saved_mode=@@session.sql_mode;
SET SESSION time_zone = 'SYSTEM', sql_mode = CONCAT(@@session.sql_mode, ',NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES');
create /* gh-ost */ table `c_ghost_migration`.`_apps_gho` like `c_ghost_migration`.`apps`;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
SET SESSION time_zone = 'SYSTEM', sql_mode = CONCAT(@@session.sql_mode, ',NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES');
alter /* gh-ost */ table `c_ghost_migration`.`_apps_gho` add column region varchar(16) not null default 'all', modify name varchar(200) not null, add index(created_at);
SET SESSION sql_mode=@saved_mode;
-- gh-ost
alter /* gh-ost */ table `c_ghost_migration`.`_apps_gho` AUTO_INCREMENT=1024;
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(2, 0), 'state', 'GhostTableMigrated')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(0, 0), 'state at 1795235146607864927', 'GhostTableMigrated')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:46.611246018Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(2, 0), 'state', 'ReadMigrationRangeValues')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(0, 0), 'state at 1795235146616917401', 'ReadMigrationRangeValues')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(0, 0), 'copy iteration 0 at 1795235146', 'migrating')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- app
insert into c_ghost_migration.apps(name,price) values('live 2',2);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=14;
-- app
delete from c_ghost_migration.apps where id=25;
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:46.712515799Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:46.812017191Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- app
insert into c_ghost_migration.apps(name,price) values('live 3',3);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=21;
-- app
delete from c_ghost_migration.apps where id=36;
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:46.912465266Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- app
insert into c_ghost_migration.apps(name,price) values('live 4',4);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=28;
-- app
delete from c_ghost_migration.apps where id=47;
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:47.01269172Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:47.112321949Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- app
insert into c_ghost_migration.apps(name,price) values('live 5',5);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=35;
-- app
delete from c_ghost_migration.apps where id=58;
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:47.212769953Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:47.312582359Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- app
insert into c_ghost_migration.apps(name,price) values('live 6',6);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=42;
-- app
delete from c_ghost_migration.apps where id=69;
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:47.412063241Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:47.512342524Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- app
insert into c_ghost_migration.apps(name,price) values('live 7',7);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=49;
-- app
delete from c_ghost_migration.apps where id=80;
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:47.612122201Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(0, 0), 'copy iteration 0 at 1795235147', 'migrating')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
insert /* gh-ost `c_ghost_migration`.`_apps_gho` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  values
  (1025, _binary'live 2', ELT(1, 'draft','live','gone'), '2026-11-21 04:25:46', '2026-11-21 04:25:46', '2', convert(NULL using utf8mb4));
delete /* gh-ost `c_ghost_migration`.`_apps_gho` */
  from
  `c_ghost_migration`.`_apps_gho`
  where
  ((`id` = 25));
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
insert /* gh-ost `c_ghost_migration`.`_apps_gho` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  values
  (1026, _binary'live 3', ELT(1, 'draft','live','gone'), '2026-11-21 04:25:46', '2026-11-21 04:25:46', '3', convert(NULL using utf8mb4));
update /* gh-ost `c_ghost_migration`.`_apps_gho` */
  `c_ghost_migration`.`_apps_gho`
  set
  `id`=21, `name`=_binary'app 21', `status`=ELT(2, 'draft','live','gone'), `created_at`='2026-11-21 04:25:46', `updated_at`='2026-11-21 04:25:46', `price`='26.9245', `meta`=convert('{\"n\":21}' using utf8mb4)
  where
  ((`id` = 21));
delete /* gh-ost `c_ghost_migration`.`_apps_gho` */
  from
  `c_ghost_migration`.`_apps_gho`
  where
  ((`id` = 36));
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
insert /* gh-ost `c_ghost_migration`.`_apps_gho` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  values
  (1027, _binary'live 4', ELT(1, 'draft','live','gone'), '2026-11-21 04:25:46', '2026-11-21 04:25:46', '4', convert(NULL using utf8mb4));
update /* gh-ost `c_ghost_migration`.`_apps_gho` */
  `c_ghost_migration`.`_apps_gho`
  set
  `id`=28, `name`=_binary'app 28', `status`=ELT(2, 'draft','live','gone'), `created_at`='2026-11-21 04:25:46', `updated_at`='2026-11-21 04:25:46', `price`='35.566', `meta`=convert('{\"n\":28}' using utf8mb4)
  where
  ((`id` = 28));
delete /* gh-ost `c_ghost_migration`.`_apps_gho` */
  from
  `c_ghost_migration`.`_apps_gho`
  where
  ((`id` = 47));
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
insert /* gh-ost `c_ghost_migration`.`_apps_gho` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  values
  (1028, _binary'live 5', ELT(1, 'draft','live','gone'), '2026-11-21 04:25:47', '2026-11-21 04:25:47', '5', convert(NULL using utf8mb4));
update /* gh-ost `c_ghost_migration`.`_apps_gho` */
  `c_ghost_migration`.`_apps_gho`
  set
  `id`=35, `name`=_binary'app 35', `status`=ELT(2, 'draft','live','gone'), `created_at`='2026-11-21 04:25:46', `updated_at`='2026-11-21 04:25:47', `price`='44.2075', `meta`=convert('{\"n\":35}' using utf8mb4)
  where
  ((`id` = 35));
delete /* gh-ost `c_ghost_migration`.`_apps_gho` */
  from
  `c_ghost_migration`.`_apps_gho`
  where
  ((`id` = 58));
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
insert /* gh-ost `c_ghost_migration`.`_apps_gho` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  values
  (1029, _binary'live 6', ELT(1, 'draft','live','gone'), '2026-11-21 04:25:47', '2026-11-21 04:25:47', '6', convert(NULL using utf8mb4));
update /* gh-ost `c_ghost_migration`.`_apps_gho` */
  `c_ghost_migration`.`_apps_gho`
  set
  `id`=42, `name`=_binary'app 42', `status`=ELT(2, 'draft','live','gone'), `created_at`='2026-11-21 04:25:46', `updated_at`='2026-11-21 04:25:47', `price`='52.849', `meta`=convert('{\"n\":42}' using utf8mb4)
  where
  ((`id` = 42));
delete /* gh-ost `c_ghost_migration`.`_apps_gho` */
  from
  `c_ghost_migration`.`_apps_gho`
  where
  ((`id` = 69));
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
insert /* gh-ost `c_ghost_migration`.`_apps_gho` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  values
  (1030, _binary'live 7', ELT(1, 'draft','live','gone'), '2026-11-21 04:25:47', '2026-11-21 04:25:47', '7', convert(NULL using utf8mb4));
update /* gh-ost `c_ghost_migration`.`_apps_gho` */
  `c_ghost_migration`.`_apps_gho`
  set
  `id`=49, `name`=_binary'app 49', `status`=ELT(2, 'draft','live','gone'), `created_at`='2026-11-21 04:25:46', `updated_at`='2026-11-21 04:25:47', `price`='61.4905', `meta`=convert('{\"n\":49}' using utf8mb4)
  where
  ((`id` = 49));
delete /* gh-ost `c_ghost_migration`.`_apps_gho` */
  from
  `c_ghost_migration`.`_apps_gho`
  where
  ((`id` = 80));
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
SET SESSION time_zone = 'SYSTEM', sql_mode = CONCAT(@@session.sql_mode, ',NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES');
insert /* gh-ost `c_ghost_migration`.`apps` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  (
  select `id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`
  from
  `c_ghost_migration`.`apps`
  force index (`PRIMARY`)
  where
  (((`id` > 1) or ((`id` = 1))) and ((`id` < 107) or ((`id` = 107))))
  lock in share mode
  );
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
SET SESSION time_zone = 'SYSTEM', sql_mode = CONCAT(@@session.sql_mode, ',NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES');
insert /* gh-ost `c_ghost_migration`.`apps` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  (
  select `id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`
  from
  `c_ghost_migration`.`apps`
  force index (`PRIMARY`)
  where
  (((`id` > 107)) and ((`id` < 207) or ((`id` = 207))))
  lock in share mode
  );
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
SET SESSION time_zone = 'SYSTEM', sql_mode = CONCAT(@@session.sql_mode, ',NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES');
insert /* gh-ost `c_ghost_migration`.`apps` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  (
  select `id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`
  from
  `c_ghost_migration`.`apps`
  force index (`PRIMARY`)
  where
  (((`id` > 207)) and ((`id` < 307) or ((`id` = 307))))
  lock in share mode
  );
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
SET SESSION time_zone = 'SYSTEM', sql_mode = CONCAT(@@session.sql_mode, ',NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES');
insert /* gh-ost `c_ghost_migration`.`apps` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  (
  select `id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`
  from
  `c_ghost_migration`.`apps`
  force index (`PRIMARY`)
  where
  (((`id` > 307)) and ((`id` < 407) or ((`id` = 407))))
  lock in share mode
  );
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
SET SESSION time_zone = 'SYSTEM', sql_mode = CONCAT(@@session.sql_mode, ',NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES');
insert /* gh-ost `c_ghost_migration`.`apps` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  (
  select `id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`
  from
  `c_ghost_migration`.`apps`
  force index (`PRIMARY`)
  where
  (((`id` > 407)) and ((`id` < 507) or ((`id` = 507))))
  lock in share mode
  );
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
SET SESSION time_zone = 'SYSTEM', sql_mode = CONCAT(@@session.sql_mode, ',NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES');
insert /* gh-ost `c_ghost_migration`.`apps` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  (
  select `id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`
  from
  `c_ghost_migration`.`apps`
  force index (`PRIMARY`)
  where
  (((`id` > 507)) and ((`id` < 607) or ((`id` = 607))))
  lock in share mode
  );
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- app
insert into c_ghost_migration.apps(name,price) values('live 8',8);
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
SET SESSION time_zone = 'SYSTEM', sql_mode = CONCAT(@@session.sql_mode, ',NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES');
insert /* gh-ost `c_ghost_migration`.`apps` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  (
  select `id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`
  from
  `c_ghost_migration`.`apps`
  force index (`PRIMARY`)
  where
  (((`id` > 607)) and ((`id` < 707) or ((`id` = 707))))
  lock in share mode
  );
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=56;
-- app
delete from c_ghost_migration.apps where id=91;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
insert /* gh-ost `c_ghost_migration`.`_apps_gho` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  values
  (1031, _binary'live 8', ELT(1, 'draft','live','gone'), '2026-11-21 04:25:47', '2026-11-21 04:25:47', '8', convert(NULL using utf8mb4));
update /* gh-ost `c_ghost_migration`.`_apps_gho` */
  `c_ghost_migration`.`_apps_gho`
  set
  `id`=56, `name`=_binary'app 56', `status`=ELT(2, 'draft','live','gone'), `created_at`='2026-11-21 04:25:46', `updated_at`='2026-11-21 04:25:47', `price`='70.132', `meta`=convert('{\"n\":56}' using utf8mb4)
  where
  ((`id` = 56));
delete /* gh-ost `c_ghost_migration`.`_apps_gho` */
  from
  `c_ghost_migration`.`_apps_gho`
  where
  ((`id` = 91));
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
SET SESSION time_zone = 'SYSTEM', sql_mode = CONCAT(@@session.sql_mode, ',NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES');
insert /* gh-ost `c_ghost_migration`.`apps` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  (
  select `id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`
  from
  `c_ghost_migration`.`apps`
  force index (`PRIMARY`)
  where
  (((`id` > 707)) and ((`id` < 807) or ((`id` = 807))))
  lock in share mode
  );
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
SET @saved_mode=@@session.sql_mode;
START TRANSACTION;
SET SESSION time_zone = 'SYSTEM', sql_mode = CONCAT(@@session.sql_mode, ',NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES');
insert /* gh-ost `c_ghost_migration`.`apps` */ ignore
  into
  `c_ghost_migration`.`_apps_gho`
  (`id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`)
  (
  select `id`, `name`, `status`, `created_at`, `updated_at`, `price`, `meta`
  from
  `c_ghost_migration`.`apps`
  force index (`PRIMARY`)
  where
  (((`id` > 807)) and ((`id` < 1024) or ((`id` = 1024))))
  lock in share mode
  );
COMMIT;
SET SESSION sql_mode=@saved_mode;
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:47.712199993Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(0, 0), 'copy iteration 9 at 1795235147', 'migrating')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
create /* gh-ost */ table `c_ghost_migration`.`_apps_del` (
  id int auto_increment primary key
  ) engine=InnoDB comment='ghost-cut-over-sentry';
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(2, 0), 'state', 'AllEventsUpToLockProcessed:1795235147731070824')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(0, 0), 'state at 1795235147731476279', 'AllEventsUpToLockProcessed:1795235147731070824')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:47.812945352Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- app
insert into c_ghost_migration.apps(name,price) values('live 9',9);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:47.912440505Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:48.01254735Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:48.112199337Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:48.212665569Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:48.31246107Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:48.412033257Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:48.511813525Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:48.612315961Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(0, 0), 'copy iteration 9 at 1795235148', 'migrating')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(1, 0), 'heartbeat', '2026-11-21T04:25:48.712502516Z')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(0, 0), 'copy iteration 9 at 1795235148', 'migrating')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- gh-ost
drop /* gh-ost */ table if exists `c_ghost_migration`.`_apps_del`;
-- gh-ost
rename /* gh-ost */ table `c_ghost_migration`.`apps` to `c_ghost_migration`.`_apps_del`, `c_ghost_migration`.`_apps_gho` to `c_ghost_migration`.`apps`;
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(2, 0), 'state', 'Migrated')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=63;
-- gh-ost
insert /* gh-ost */
  into
  `c_ghost_migration`.`_apps_ghc`
  (id, hint, value)
  values
  (NULLIF(0, 0), 'state at 1795235148740634997', 'Migrated')
  on duplicate key update
  last_update=NOW(),
  value=VALUES(value);
-- app
delete from c_ghost_migration.apps where id=102;
-- gh-ost
drop /* gh-ost */ table if exists `c_ghost_migration`.`_apps_ghc`;
-- app
insert into c_ghost_migration.apps(name,price) values('live 10',10);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=70;
-- app
delete from c_ghost_migration.apps where id=113;
-- app
insert into c_ghost_migration.apps(name,price) values('live 11',11);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=77;
-- app
delete from c_ghost_migration.apps where id=124;
-- app
insert into c_ghost_migration.apps(name,price) values('live 12',12);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=84;
-- app
delete from c_ghost_migration.apps where id=135;
-- app
insert into c_ghost_migration.apps(name,price) values('live 13',13);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=91;
-- app
delete from c_ghost_migration.apps where id=146;
-- app
insert into c_ghost_migration.apps(name,price) values('live 14',14);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=98;
-- app
delete from c_ghost_migration.apps where id=157;
-- app
insert into c_ghost_migration.apps(name,price) values('live 15',15);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=105;
-- app
delete from c_ghost_migration.apps where id=168;
-- app
insert into c_ghost_migration.apps(name,price) values('live 16',16);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=112;
-- app
delete from c_ghost_migration.apps where id=179;
-- app
insert into c_ghost_migration.apps(name,price) values('live 17',17);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=119;
-- app
delete from c_ghost_migration.apps where id=190;
-- app
insert into c_ghost_migration.apps(name,price) values('live 18',18);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=126;
-- app
delete from c_ghost_migration.apps where id=201;
-- app
insert into c_ghost_migration.apps(name,price) values('live 19',19);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=133;
-- app
delete from c_ghost_migration.apps where id=212;
-- app
insert into c_ghost_migration.apps(name,price) values('live 20',20);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=140;
-- app
delete from c_ghost_migration.apps where id=223;
-- app
insert into c_ghost_migration.apps(name,price) values('live 21',21);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=147;
-- app
delete from c_ghost_migration.apps where id=234;
-- app
insert into c_ghost_migration.apps(name,price) values('live 22',22);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=154;
-- app
delete from c_ghost_migration.apps where id=245;
-- app
insert into c_ghost_migration.apps(name,price) values('live 23',23);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=161;
-- app
delete from c_ghost_migration.apps where id=256;
-- app
insert into c_ghost_migration.apps(name,price) values('live 24',24);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=168;
-- app
delete from c_ghost_migration.apps where id=267;
-- app
insert into c_ghost_migration.apps(name,price) values('live 25',25);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=175;
-- app
delete from c_ghost_migration.apps where id=278;
-- app
insert into c_ghost_migration.apps(name,price) values('live 26',26);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=182;
-- app
delete from c_ghost_migration.apps where id=289;
-- app
insert into c_ghost_migration.apps(name,price) values('live 27',27);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=189;
-- app
delete from c_ghost_migration.apps where id=300;
-- app
insert into c_ghost_migration.apps(name,price) values('live 28',28);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=196;
-- app
delete from c_ghost_migration.apps where id=311;
-- app
insert into c_ghost_migration.apps(name,price) values('live 29',29);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=203;
-- app
delete from c_ghost_migration.apps where id=322;
-- app
insert into c_ghost_migration.apps(name,price) values('live 30',30);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=210;
-- app
delete from c_ghost_migration.apps where id=333;
-- app
insert into c_ghost_migration.apps(name,price) values('live 31',31);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=217;
-- app
delete from c_ghost_migration.apps where id=344;
-- app
insert into c_ghost_migration.apps(name,price) values('live 32',32);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=224;
-- app
delete from c_ghost_migration.apps where id=355;
-- app
insert into c_ghost_migration.apps(name,price) values('live 33',33);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=231;
-- app
delete from c_ghost_migration.apps where id=366;
-- app
insert into c_ghost_migration.apps(name,price) values('live 34',34);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=238;
-- app
delete from c_ghost_migration.apps where id=377;
-- app
insert into c_ghost_migration.apps(name,price) values('live 35',35);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=245;
-- app
delete from c_ghost_migration.apps where id=388;
-- app
insert into c_ghost_migration.apps(name,price) values('live 36',36);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=252;
-- app
delete from c_ghost_migration.apps where id=399;
-- app
insert into c_ghost_migration.apps(name,price) values('live 37',37);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=259;
-- app
delete from c_ghost_migration.apps where id=410;
-- app
insert into c_ghost_migration.apps(name,price) values('live 38',38);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=266;
-- app
delete from c_ghost_migration.apps where id=421;
-- app
insert into c_ghost_migration.apps(name,price) values('live 39',39);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=273;
-- app
delete from c_ghost_migration.apps where id=432;
-- app
insert into c_ghost_migration.apps(name,price) values('live 40',40);
-- app
update c_ghost_migration.apps set price=price+1, status='live' where id=280;
-- app
delete from c_ghost_migration.apps where id=443;
