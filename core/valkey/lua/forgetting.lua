-- Forget the result, the failed attempts, the log and the payload of a finished job.
local function forget(s)
  call('HDEL', P .. 'j:' .. s, 'F', 'L')
  call('HSET', P .. 'j:' .. s, 'y', 1)
  call('UNLINK', P .. 'r:' .. s, P .. 'a:' .. s, P .. 'l:' .. s, P .. 'p:' .. s)
end
