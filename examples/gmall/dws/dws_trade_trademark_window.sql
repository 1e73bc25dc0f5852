-- Ordered lines by brand, per 10 seconds of order time.
INSERT INTO dws_trade_trademark_window
SELECT
  window_start,
  window_end,
  tm_id,
  tm_name,
  SUM(split_total_amount) AS order_amount,
  MAX(order_price) AS price_max,
  COUNT(*) AS line_count
FROM TABLE(TUMBLE(TABLE dwd_trade_order_detail, DESCRIPTOR(create_time), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, tm_id, tm_name;
