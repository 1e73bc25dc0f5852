-- Payments with the order that they pay, its place and its user.
INSERT INTO dwd_trade_payment
SELECT
  pi.id,
  pi.order_id,
  pi.user_id,
  u.name AS user_name,
  u.user_level,
  oi.province_id,
  p.name AS province_name,
  pi.payment_type,
  dic.dic_name AS payment_type_name,
  pi.total_amount,
  oi.total_amount AS order_amount,
  pi.callback_time
FROM payment_info AS pi
JOIN order_info         FOR SYSTEM_TIME AS OF pi.row_position AS oi  ON oi.id = pi.order_id
LEFT JOIN base_province FOR SYSTEM_TIME AS OF pi.row_position AS p   ON p.id = oi.province_id
LEFT JOIN user_info     FOR SYSTEM_TIME AS OF pi.row_position AS u   ON u.id = pi.user_id
LEFT JOIN base_dic      FOR SYSTEM_TIME AS OF pi.row_position AS dic ON dic.dic_code = pi.payment_type
WHERE pi.row_kind = 'insert';
