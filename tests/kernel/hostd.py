#!/usr/bin/env python3
"""hostd.py RUNDIR: carries out what the guest asks for on its second serial line (RUNDIR/exit), one request a line:
   KT-HOST qmp {"execute":...}     any QMP command, e.g. device_del, device_add
   KT-HOST sh COMMAND              a shell command on the host (env RD=RUNDIR), e.g. $VFUD faults, killing a device server
Stops at KT-EXIT. Answers go to RUNDIR/hostd.log (the guest just waits a second)."""
import os, socket, subprocess, sys, time
rd = sys.argv[1]
log = open(rd + "/hostd.log", "w", buffering=1)
s = None
def qmp(cmd):
    global s
    if s is None:
        s = socket.socket(socket.AF_UNIX); s.connect(rd + "/qmp"); s = s.makefile("rw")
        log.write(s.readline()); s.write('{"execute":"qmp_capabilities"}\n'); s.flush(); log.write(s.readline())
    s.write(cmd + "\n"); s.flush()
    while True:
        a = s.readline()
        if not a: return
        log.write("QMP %.3f %s" % (time.time(), a))
        if '"return"' in a or '"error"' in a: return
f = None; buf = ""
while True:
    try:
        f = f or open(rd + "/exit")
    except OSError:
        time.sleep(.1); continue
    x = f.read()
    if not x:
        time.sleep(.05)
        if os.fstat(f.fileno()).st_nlink == 0: break
        continue
    buf += x
    while "\n" in buf:
        l, buf = buf.split("\n", 1); l = l.strip()
        if l.startswith("KT-EXIT"): sys.exit(0)
        log.write("%.3f %s\n" % (time.time(), l))
        try:
            if l.startswith("KT-HOST qmp "): qmp(l[12:])
            elif l.startswith("KT-HOST sh "): log.write(subprocess.run(l[11:], shell=True, env=dict(os.environ, RD=rd), capture_output=True, text=True).stdout)
        except Exception as e: log.write("ERR %r\n" % e)
