-- Further ARGV: the owner's epoch, the number after which these events came, the number up to which they are complete, events.
local mine, from, to = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local epoch, sequence, clock = marked()
if epoch and epoch > mine then return {'fenced', epoch} end
if not sequence or sequence < from then return {'lost'} end
note(8, clock)
return settle(mine, math.max(sequence, to), clock)
