-- Put unfinished jobs in their places again, in a store without them that no node uses. A job that
-- was running waits again, and its attempt counts as one that crashed.
-- uses: lib ending placing
local DIED = 'was running when its node died'
while at < #ARGV do
  local s = arg()
  local f = facts(s)
  if f.s == '3' then
    keep_attempt(s, f, cmsgpack.pack({number = f.a, started = 0, ended = now / 1000, place = '', reason = 3, error = DIED}))
    call('HDEL', P .. 'j:' .. s, 'g', 'G', 'h')
    call('HSET', P .. 'j:' .. s, 's', '2')
    f.s = '2'
  end
  place(s, f)
  place_tags(s, f)
end
settle_counts()
return 1
