-- Tells of versions that the store has: voids leases, replaces older versions,
-- makes no key.
-- KEYS: the keys. ARGV: for each key a value and its milliseconds.
local LEASE = ('L'):byte()

-- Lua compares strings by the server's locale, and its numbers have 53 bits.
local function is_older(held, value)
  for at = 2, 9 do
    local mine, other = held:byte(at), value:byte(at)
    if mine ~= other then
      return mine < other
    end
  end
  return false
end

for at, key in ipairs(KEYS) do
  local held, value = redis.call('GET', key), ARGV[2 * at - 1]
  if held and held:byte() == LEASE then
    redis.call('DEL', key)
  elseif held and is_older(held, value) then
    -- What finds no room must not leave the older version behind.
    if redis.pcall('SET', key, value, 'PX', ARGV[2 * at]).err then
      redis.call('DEL', key)
    end
  end
end
-- Removes nothing; fails on a replica, where nothing above may have.
redis.call('DEL', KEYS[1] .. '!')
return 1
