-- The shop's business database: the tables and columns that the gmall course
-- made well known. Times are UTC.

SET NAMES utf8mb4;

-- Dimensions: what is sold, where, and how things are called.

CREATE TABLE base_category1 (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name varchar(10) NOT NULL,
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE base_category2 (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name varchar(200) NOT NULL,
  category1_id bigint,
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE base_category3 (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name varchar(200) NOT NULL,
  category2_id bigint,
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE base_dic (
  dic_code varchar(10) NOT NULL PRIMARY KEY,
  dic_name varchar(100),
  parent_code varchar(10),
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE base_region (
  id varchar(20) NOT NULL PRIMARY KEY,
  region_name varchar(20),
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE base_province (
  id bigint NOT NULL PRIMARY KEY,
  name varchar(20),
  region_id varchar(20),
  area_code varchar(20), iso_code varchar(20), iso_3166_2 varchar(20),
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE base_trademark (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  tm_name varchar(100) NOT NULL,
  logo_url varchar(200),
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE spu_info (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  spu_name varchar(200),
  description varchar(1000),
  category3_id bigint,
  tm_id bigint,
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE sku_info (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  spu_id bigint,
  price decimal(10,0),
  sku_name varchar(200),
  sku_desc varchar(2000),
  weight decimal(10,2),
  tm_id bigint,
  category3_id bigint,
  sku_default_img varchar(300),
  is_sale tinyint NOT NULL DEFAULT 0,
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Users.

CREATE TABLE user_info (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  login_name varchar(200), nick_name varchar(200), passwd varchar(200),
  name varchar(200), phone_num varchar(200), email varchar(200), head_img varchar(200),
  user_level varchar(200),
  birthday date,
  gender varchar(1),
  create_time datetime, operate_time datetime,
  status varchar(200)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE user_address (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id bigint,
  province_id bigint,
  user_address varchar(500), consignee varchar(40), phone_num varchar(40),
  is_default varchar(1),
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE favor_info (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id bigint, sku_id bigint, spu_id bigint,
  is_cancel varchar(1),
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE comment_info (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id bigint, nick_name varchar(20), head_img varchar(200),
  sku_id bigint, spu_id bigint, order_id bigint,
  appraise varchar(10),
  comment_txt varchar(2000),
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Offers: activities and coupons.

CREATE TABLE activity_info (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  activity_name varchar(200), activity_type varchar(10), activity_desc varchar(2000),
  start_time datetime, end_time datetime,
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE activity_rule (
  id int NOT NULL AUTO_INCREMENT PRIMARY KEY,
  activity_id int,
  activity_type varchar(20),
  condition_amount decimal(16,2), condition_num bigint,
  benefit_amount decimal(16,2), benefit_discount decimal(10,2), benefit_level bigint,
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE activity_sku (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  activity_id bigint, sku_id bigint,
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE coupon_info (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  coupon_name varchar(100), coupon_type varchar(10),
  condition_amount decimal(10,2), condition_num bigint,
  activity_id bigint,
  benefit_amount decimal(16,2), benefit_discount decimal(10,2),
  create_time datetime,
  range_type varchar(10),
  limit_num int NOT NULL DEFAULT 0, taken_count int NOT NULL DEFAULT 0,
  start_time datetime, end_time datetime, operate_time datetime, expire_time datetime,
  range_desc varchar(500)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE coupon_range (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  coupon_id bigint NOT NULL DEFAULT 0,
  range_type varchar(10) NOT NULL DEFAULT '',
  range_id bigint NOT NULL DEFAULT 0,
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE coupon_use (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  coupon_id bigint, user_id bigint, order_id bigint,
  coupon_status varchar(10),
  get_time datetime, using_time datetime, used_time datetime, expire_time datetime,
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Facts: carts, orders, payments, refunds.

CREATE TABLE cart_info (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id varchar(200), sku_id bigint,
  cart_price decimal(10,2), sku_num int,
  img_url varchar(200), sku_name varchar(200),
  is_checked int,
  create_time datetime, operate_time datetime,
  is_ordered bigint, order_time datetime,
  KEY idx_uid (user_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE order_info (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  consignee varchar(100), consignee_tel varchar(20),
  total_amount decimal(10,2),
  order_status varchar(20),
  user_id bigint,
  payment_way varchar(20),
  delivery_address varchar(1000), order_comment varchar(200),
  out_trade_no varchar(50), trade_body varchar(200),
  create_time datetime, operate_time datetime, expire_time datetime,
  process_status varchar(20), tracking_no varchar(100),
  parent_order_id bigint,
  img_url varchar(200),
  province_id int,
  activity_reduce_amount decimal(16,2), coupon_reduce_amount decimal(16,2),
  original_total_amount decimal(16,2),
  feight_fee decimal(16,2), feight_fee_reduce decimal(16,2),
  refundable_time datetime,
  KEY idx_uid_status (order_status, user_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE order_detail (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_id bigint, sku_id bigint,
  sku_name varchar(200), img_url varchar(200),
  order_price decimal(10,2), sku_num bigint,
  create_time datetime,
  split_total_amount decimal(16,2), split_activity_amount decimal(16,2), split_coupon_amount decimal(16,2),
  operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE order_detail_activity (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_id bigint, order_detail_id bigint, activity_id bigint, activity_rule_id bigint, sku_id bigint,
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE order_detail_coupon (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_id bigint, order_detail_id bigint, coupon_id bigint, coupon_use_id bigint, sku_id bigint,
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE order_status_log (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_id bigint,
  order_status varchar(11),
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE payment_info (
  id int NOT NULL AUTO_INCREMENT PRIMARY KEY,
  out_trade_no varchar(50),
  order_id bigint, user_id bigint,
  payment_type varchar(20), trade_no varchar(50),
  total_amount decimal(10,2),
  subject varchar(200), payment_status varchar(20),
  create_time datetime, callback_time datetime, callback_content text,
  operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE order_refund_info (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id bigint, order_id bigint, sku_id bigint,
  refund_type varchar(20), refund_num bigint, refund_amount decimal(16,2),
  refund_reason_type varchar(200), refund_reason_txt varchar(20), refund_status varchar(10),
  create_time datetime, operate_time datetime
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE refund_payment (
  id int NOT NULL AUTO_INCREMENT PRIMARY KEY,
  out_trade_no varchar(50),
  order_id bigint, sku_id bigint,
  payment_type varchar(20), trade_no varchar(50),
  total_amount decimal(10,2),
  subject varchar(200), refund_status varchar(30),
  create_time datetime, callback_time datetime, callback_content text,
  operate_time datetime,
  KEY idx_out_trade_no (out_trade_no),
  KEY idx_order_id (order_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
