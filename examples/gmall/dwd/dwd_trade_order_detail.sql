-- Ordered lines, each with its order, product, category, brand and place, as
-- they were in the transaction that placed the order.
INSERT INTO dwd_trade_order_detail
SELECT
  od.id,
  od.order_id,
  oi.user_id,
  oi.province_id,
  p.name AS province_name,
  p.region_id,
  r.region_name,
  od.sku_id,
  sku.sku_name,
  sku.price AS sku_price,
  sku.spu_id,
  spu.spu_name,
  sku.category3_id,
  c3.name AS category3_name,
  c3.category2_id,
  c2.name AS category2_name,
  c2.category1_id,
  c1.name AS category1_name,
  sku.tm_id,
  tm.tm_name,
  od.order_price,
  od.sku_num,
  od.split_total_amount,
  COALESCE(od.split_activity_amount, 0.00) AS split_activity_amount,
  COALESCE(od.split_coupon_amount, 0.00) AS split_coupon_amount,
  od.create_time
FROM order_detail AS od
JOIN order_info          FOR SYSTEM_TIME AS OF od.row_position AS oi  ON oi.id = od.order_id
LEFT JOIN sku_info       FOR SYSTEM_TIME AS OF od.row_position AS sku ON sku.id = od.sku_id
LEFT JOIN spu_info       FOR SYSTEM_TIME AS OF od.row_position AS spu ON spu.id = sku.spu_id
LEFT JOIN base_category3 FOR SYSTEM_TIME AS OF od.row_position AS c3  ON c3.id = sku.category3_id
LEFT JOIN base_category2 FOR SYSTEM_TIME AS OF od.row_position AS c2  ON c2.id = c3.category2_id
LEFT JOIN base_category1 FOR SYSTEM_TIME AS OF od.row_position AS c1  ON c1.id = c2.category1_id
LEFT JOIN base_trademark FOR SYSTEM_TIME AS OF od.row_position AS tm  ON tm.id = sku.tm_id
LEFT JOIN base_province  FOR SYSTEM_TIME AS OF od.row_position AS p   ON p.id = oi.province_id
LEFT JOIN base_region    FOR SYSTEM_TIME AS OF od.row_position AS r   ON r.id = p.region_id
WHERE od.row_kind = 'insert';
