-- Further ARGV: the owner's epoch, the number after which these events came, the number up to which they are complete, the filling that the parts before went
-- into (empty for the first part), events. A filling throws away what was there, so what was left of a step before it does not complete the shard.
local mine, from, to, into = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local epoch, sequence, clock, filling = marked()
if epoch and epoch > mine then return {'fenced', epoch} end
if not sequence or sequence < from or (into and into ~= filling) then return {'lost'} end
note(9, clock)
return settle(mine, math.max(sequence, to), clock, filling)
