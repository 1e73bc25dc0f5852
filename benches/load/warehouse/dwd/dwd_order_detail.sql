-- Three lookups a fact, one of them by a column of another.
INSERT INTO dwd_order_detail
SELECT
  od.id,
  od.order_id,
  od.user_id,
  u.user_level,
  od.sku_id,
  sku.sku_name,
  sku.price AS sku_price,
  sku.category3_id,
  sku.tm_id,
  tm.tm_name,
  od.order_price,
  od.sku_num,
  od.split_total_amount,
  od.create_time
FROM order_detail AS od
LEFT JOIN sku_info       FOR SYSTEM_TIME AS OF od.row_position AS sku ON sku.id = od.sku_id
LEFT JOIN user_info      FOR SYSTEM_TIME AS OF od.row_position AS u   ON u.id = od.user_id
LEFT JOIN base_trademark FOR SYSTEM_TIME AS OF od.row_position AS tm  ON tm.id = sku.tm_id
WHERE od.row_kind = 'insert';
