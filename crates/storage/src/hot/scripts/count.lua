local epoch, sequence, clock, filling = marked()
if not sequence then return {'lost'} end
return settle(epoch, sequence, clock, filling)
