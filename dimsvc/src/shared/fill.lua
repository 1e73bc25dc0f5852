-- Puts what a load has read in the place of its own lease.
-- KEYS: the keys. ARGV: the lease, then for each key a value and its milliseconds.
-- Answers for each key 1 if it was filled.
local answers = {}
for at, key in ipairs(KEYS) do
  answers[at] = 0
  if redis.call('GET', key) == ARGV[1]
    and not redis.pcall('SET', key, ARGV[2 * at], 'PX', ARGV[2 * at + 1]).err
  then
    answers[at] = 1
  end
end
return answers
