-- KEYS: the owner, and its lease, which expires. ARGV: who claims, for how many ms, now in ms, an epoch that the new one must be beyond, how long the owner is
-- remembered in ms. Epochs grow even over a loss of everything, because they are no less than the time.
local holder = redis.call('GET', KEYS[2])
local found = redis.call('HMGET', KEYS[1], 'epoch', 'holder')
local epoch = tonumber(found[1]) or 0
if holder and holder ~= ARGV[1] then return {'held', epoch, redis.call('PTTL', KEYS[2])} end
if found[2] ~= ARGV[1] or epoch <= tonumber(ARGV[4]) then
    epoch = math.max(epoch + 1, tonumber(ARGV[3]), tonumber(ARGV[4]) + 1)
end
redis.call('HSET', KEYS[1], 'epoch', string.format('%.0f', epoch), 'holder', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {'granted', epoch, 0}
