-- Ordered lines by category, per 10 seconds of order time.
INSERT INTO dws_trade_category_window
SELECT
  window_start,
  window_end,
  category1_id,
  category1_name,
  category2_id,
  category2_name,
  category3_id,
  category3_name,
  SUM(split_total_amount) AS order_amount,
  SUM(sku_num) AS sku_count,
  COUNT(*) AS line_count
FROM TABLE(TUMBLE(TABLE dwd_trade_order_detail, DESCRIPTOR(create_time), INTERVAL '10' SECOND))
GROUP BY window_start, window_end,
  category1_id, category1_name, category2_id, category2_name, category3_id, category3_name;
