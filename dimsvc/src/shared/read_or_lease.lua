-- Reads keys, and leaves a lease where nothing is held.
-- KEYS: the keys. ARGV: the lease, its milliseconds.
-- Answers for each key what it holds, 1 for the caller's lease, 0 for another's.
local LEASE = ('L'):byte()
local answers = {}
for at, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  -- A server that is full refuses the lease: then nobody fills.
  if not held and not redis.pcall('SET', key, ARGV[1], 'PX', ARGV[2]).err then
    held = ARGV[1]
  end
  if held == ARGV[1] then
    answers[at] = 1
  elseif not held or held:byte() == LEASE then
    answers[at] = 0
  else
    answers[at] = held
  end
end
-- Removes nothing. A server that was made a replica since it was connected to
-- fails here: what it holds may be old. Last, because a script that has written
-- is no longer kept within maxmemory.
redis.call('DEL', KEYS[1] .. '!')
return answers
