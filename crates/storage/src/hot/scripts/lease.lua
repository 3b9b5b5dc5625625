-- A token bucket. KEYS: the bucket, and who leased from it. ARGV: tokens wanted, tokens a second, most tokens, now in ms, longest that a clock may run ahead in
-- ms, who wants them, how long it is known in ms that somebody leased. Tokens are kept in thousandths, so that every step is a whole number. Gives tokens
-- granted, in how many ms the rest will be there, and how many leased lately.
local want, rate, burst, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local function text(number) return string.format('%.0f', number) end

local most = burst * 1000
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(kept[1]) or most, tonumber(kept[2]) or now
-- Time never goes back, and a clock that ran far ahead does not stop everybody else's.
if at - now > tonumber(ARGV[5]) then at = now end
if now > at then
    tokens = tokens + math.min((now - at) * rate, most)
    at = now
end
tokens = math.min(tokens, most)

local granted = math.min(want, math.floor(tokens / 1000))
tokens = tokens - granted * 1000
local missing = math.min(want, burst) - granted
local wait = 0
if missing > 0 then wait = math.ceil((missing * 1000 - tokens) / rate) end

redis.call('HSET', KEYS[1], 'tokens', text(tokens), 'at', text(at))
redis.call('PEXPIRE', KEYS[1], text(math.ceil((most - tokens) / rate) + 60000))

-- By the server's clock, as those of who leases differ.
local clock = redis.call('TIME')
local second = tonumber(clock[1])
redis.call('ZADD', KEYS[2], second, ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', second - tonumber(ARGV[7]) / 1000)
redis.call('PEXPIRE', KEYS[2], ARGV[7])
return {granted, wait, redis.call('ZCARD', KEYS[2])}
