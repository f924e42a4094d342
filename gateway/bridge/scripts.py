"""The transactions of the ledger, in Lua. Each touches the keys of one endpoint only: one slot of a Redis Cluster."""

from __future__ import annotations

from typing import Final

# KEYS: state, retries, replays. ARGV: epoch, position to begin with ("" = the endpoint must have a state).
# nil: no such endpoint. 0: a later owner has it.
CLAIM: Final = """
local known = redis.call('HGET', KEYS[1], 'epoch')
if not known then
  if ARGV[2] == '' then return nil end
  redis.call('HSET', KEYS[1], 'position', ARGV[2])
elseif tonumber(known) > tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
return {redis.call('HGETALL', KEYS[1]), redis.call('ZCARD', KEYS[2]),
        redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES'), redis.call('HGETALL', KEYS[3])}
"""

# KEYS: state, records, log, retries, retry bodies, replays.
# ARGV: epoch, records to keep, oldest to keep (ms, 0 = do not look), then seven lists, each led by its length:
# state pairs, record pairs, (created, id) pairs, (due, id) pairs, retry body pairs, settled ids, replay pairs.
COMMIT: Final = """
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
local at = 4
local function list()
  local n = tonumber(ARGV[at])
  local first = at + 1
  at = first + n
  if n == 0 then return nil end
  return unpack(ARGV, first, at - 1)
end
local function call(command, key, ...)
  if (...) then redis.call(command, key, ...) end
end
call('HSET', KEYS[1], list())
call('HSET', KEYS[2], list())
call('ZADD', KEYS[3], list())
call('ZADD', KEYS[4], list())
call('HSET', KEYS[5], list())
local settled = {list()}
if #settled > 0 then
  redis.call('ZREM', KEYS[4], unpack(settled))
  redis.call('HDEL', KEYS[5], unpack(settled))
end
call('HSET', KEYS[6], list())
local old = redis.call('ZRANGE', KEYS[3], 0, -1 - tonumber(ARGV[2]))
if #old == 0 and ARGV[3] ~= '0' then
  old = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[3], 'LIMIT', 0, 500)
end
for i = 1, #old, 500 do
  local last = math.min(i + 499, #old)
  redis.call('ZREM', KEYS[3], unpack(old, i, last))
  redis.call('HDEL', KEYS[2], unpack(old, i, last))
end
return 1
"""

# KEYS: records, log, retries, retry bodies. ARGV: id, record, created, due ("" = only log it).
ENTER: Final = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
if ARGV[4] ~= '' then
  if redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
  redis.call('HSET', KEYS[4], ARGV[1], ARGV[2])
  redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
end
return 1
"""

# KEYS: the index of endpoints. ARGV: id, the record expected ("" = none), the record to store ("" = remove).
SWAP: Final = """
local now = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if now ~= ARGV[2] then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1
"""
