local epoch, sequence, clock = marked()
if not sequence then return {'lost'} end
return settle(epoch, sequence, clock)
