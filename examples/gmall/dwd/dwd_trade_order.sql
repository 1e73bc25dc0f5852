-- Placed orders, one row an order: what counts orders reads this table.
INSERT INTO dwd_trade_order
SELECT
  oi.id,
  oi.user_id,
  oi.province_id,
  p.name AS province_name,
  p.region_id,
  r.region_name,
  oi.total_amount,
  oi.create_time
FROM order_info AS oi
LEFT JOIN base_province FOR SYSTEM_TIME AS OF oi.row_position AS p ON p.id = oi.province_id
LEFT JOIN base_region   FOR SYSTEM_TIME AS OF oi.row_position AS r ON r.id = p.region_id
WHERE oi.row_kind = 'insert';
