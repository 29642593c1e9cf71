-- Set the switches of a task, if they are still as they were: TaskHold as JSON, empty for none.
-- uses: lib
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local task, before, after = arg(), arg(), arg()
local have = call('HGET', P .. 'hold', task) or ''
if have ~= before then
  return {'changed', have}
end
if after == '' then
  call('HDEL', P .. 'hold', task)
else
  call('HSET', P .. 'hold', task, after)
end
wake({[task] = true}, '')
return {'done', after}
