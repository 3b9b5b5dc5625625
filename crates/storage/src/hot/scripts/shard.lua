-- A shard of open sessions. KEYS: the marker, the open sessions, and events that are still to come. ARGV of every script: now, the longest gap of a session,
-- how long the keys are kept and how far a clock may run ahead, all in ms.
--
-- The marker is a hash: the epoch of the owner, the word of the filling that all this has grown from, the sequence number up to which everything is in, and the
-- latest clock that looked. The sets hold visitors by the time of their last event, and visitors with a time by that time. Each set also holds "-" at the end of
-- time, so that it is never empty: a set that is not there was lost. All three live and expire together.
local marker, open, later = KEYS[1], KEYS[2], KEYS[3]
local now, gap, kept, ahead = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local function text(number) return string.format('%.0f', number) end

-- Epoch, sequence, clock and filling; the epoch alone where the shard is not there, or not whole.
local function marked()
    local found = redis.call('HMGET', marker, 'epoch', 'sequence', 'clock', 'filling')
    local epoch, sequence, clock, filling = tonumber(found[1]), tonumber(found[2]), tonumber(found[3]), tonumber(found[4])
    local whole = sequence and clock and filling and clock - now <= ahead
        and redis.call('ZSCORE', open, '-') and redis.call('ZSCORE', later, '-')
    if not whole then return epoch end
    return epoch, sequence, math.max(clock, now), filling
end

-- Adds pairs to a set, a thousand at a time.
local function add(set, pairs, how)
    for from = 1, #pairs, 2000 do
        local some = {unpack(pairs, from, math.min(from + 1999, #pairs))}
        if how then redis.call('ZADD', set, how, unpack(some)) else redis.call('ZADD', set, unpack(some)) end
    end
end

-- Notes events: visitor and time, one behind the other, from an argument on. In any order and again and again, with the same outcome.
local function note(first, clock)
    local past, future = {}, {}
    for at = first, #ARGV, 2 do
        local visitor, time = ARGV[at], tonumber(ARGV[at + 1])
        if time > clock then
            future[#future + 1] = ARGV[at + 1]
            future[#future + 1] = visitor .. ARGV[at + 1]
        elseif time >= clock - gap then
            past[#past + 1] = ARGV[at + 1]
            past[#past + 1] = visitor
        end
    end
    add(open, past, 'GT')
    add(later, future)
end

-- Lets the clock advance: events that are due open or extend sessions, sessions without events for longer than the gap end. Gives what is open.
local function settle(epoch, sequence, clock, filling)
    local due = redis.call('ZRANGEBYSCORE', later, '-inf', text(clock), 'WITHSCORES')
    if #due > 0 then
        local past = {}
        for at = 1, #due, 2 do
            past[at], past[at + 1] = due[at + 1], string.sub(due[at], 1, 16)
        end
        add(open, past, 'GT')
        redis.call('ZREMRANGEBYSCORE', later, '-inf', text(clock))
    end
    redis.call('ZREMRANGEBYSCORE', open, '-inf', '(' .. text(clock - gap))
    redis.call('HSET', marker, 'epoch', text(epoch), 'sequence', text(sequence), 'clock', text(clock))
    for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, kept) end
    return {'ok', redis.call('ZCARD', open) - 1, sequence, clock, epoch, filling}
end
