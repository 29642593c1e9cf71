-- Set the switches of a task, if they are still as they were: TaskHold as JSON, empty for none. With
-- ``*`` for what they were: if they are of no later version.
-- uses: lib
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local task, before, after, version = arg(), arg(), arg(), number()
local have = call('HGET', P .. 'hold', task) or ''
if before == '*' then
  if have ~= '' and (cjson.decode(have).version or 0) > version then
    return {'changed', have}
  end
elseif have ~= before then
  return {'changed', have}
end
if after == '' then
  call('HDEL', P .. 'hold', task)
else
  call('HSET', P .. 'hold', task, after)
end
wake({[task] = true}, '')
return {'done', after}
