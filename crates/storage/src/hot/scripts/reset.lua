-- Further ARGV: the owner's epoch, a word for this filling, whether this is its first part, whether it is its last, the number up to which it is complete,
-- events. Parts of a filling that another one overtook are refused. The shard is whole when the marker has a sequence number.
local mine, word, sequence = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[9])
local found = redis.call('HMGET', marker, 'epoch', 'filling', 'sequence')
local epoch = tonumber(found[1])
if epoch and epoch > mine then return {'fenced', epoch} end
if ARGV[7] == '1' then
    redis.call('UNLINK', marker, open, later)
    redis.call('HSET', marker, 'epoch', text(mine), 'filling', word)
    redis.call('ZADD', open, '+inf', '-')
    redis.call('ZADD', later, '+inf', '-')
elseif found[2] ~= word or found[3] or not redis.call('ZSCORE', open, '-') or not redis.call('ZSCORE', later, '-') then
    return {'lost'}
end
note(10, now)
if ARGV[8] == '1' then return settle(mine, sequence, now, tonumber(word)) end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, kept) end
return {'ok', 0, 0, now, mine, tonumber(word)}
