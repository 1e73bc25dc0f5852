-- Orders by province, per 10 seconds of order time.
INSERT INTO dws_trade_order_window
SELECT
  window_start,
  window_end,
  province_id,
  province_name,
  COUNT(*) AS order_count,
  SUM(total_amount) AS order_amount
FROM TABLE(TUMBLE(TABLE dwd_trade_order, DESCRIPTOR(create_time), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, province_id, province_name;
