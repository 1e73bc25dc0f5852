-- 100,000 products and users, rows of about 200 bytes as JSON.
SET SESSION cte_max_recursion_depth = 100000;

CREATE TABLE sku_info (
  id bigint NOT NULL PRIMARY KEY,
  sku_name varchar(200),
  price decimal(16,2),
  spu_id bigint,
  tm_id bigint,
  category3_id bigint,
  is_sale tinyint NOT NULL,
  create_time datetime,
  revision bigint NOT NULL
);
INSERT INTO sku_info
WITH RECURSIVE ids AS (SELECT 0 AS id UNION ALL SELECT id + 1 FROM ids WHERE id < 99999)
SELECT id, CONCAT('A product with a name of usual length ', id), id % 9000 + 0.25, id DIV 4, id % 50,
       id % 1000, 1, '2026-01-02 03:04:05', 0
FROM ids;

CREATE TABLE user_info (
  id bigint NOT NULL PRIMARY KEY,
  login_name varchar(200),
  name varchar(200),
  email varchar(200),
  user_level varchar(20),
  create_time datetime
);
INSERT INTO user_info
WITH RECURSIVE ids AS (SELECT 0 AS id UNION ALL SELECT id + 1 FROM ids WHERE id < 99999)
SELECT id, CONCAT('login_', id), CONCAT('A name of usual length ', id), CONCAT('person.', id, '@mail.example'),
       ELT(id % 3 + 1, 'new', 'known', 'loyal'), '2026-01-02 03:04:05'
FROM ids;

CREATE TABLE base_trademark (id bigint NOT NULL PRIMARY KEY, tm_name varchar(100));
INSERT INTO base_trademark
WITH RECURSIVE ids AS (SELECT 0 AS id UNION ALL SELECT id + 1 FROM ids WHERE id < 49)
SELECT id, CONCAT('Brand ', id) FROM ids;

-- The facts' table; their messages are generated.
CREATE TABLE order_detail (
  id bigint NOT NULL PRIMARY KEY,
  order_id bigint, sku_id bigint, user_id bigint,
  sku_name varchar(200), img_url varchar(200),
  order_price decimal(16,2), sku_num bigint, create_time datetime,
  split_total_amount decimal(16,2), split_activity_amount decimal(16,2), split_coupon_amount decimal(16,2)
);

-- Takes room in the binlog, for positions that no dimension changed at.
CREATE TABLE filler (bytes longblob);
