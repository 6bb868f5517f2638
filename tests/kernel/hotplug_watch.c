/* hotplug_watch ROOT: prints "ready", then "change SECONDS" (of uptime) for each time that hot plug says so; never polls.
 * hotplug_watch --forge: sends a message that looks like the kernel's to everybody who listens for uevents. */
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/hotplug.h"

static int forge(void)
{
    static const char text[] =
        "remove@/devices/pci0000:17/0000:17:04.0\0ACTION=remove\0SUBSYSTEM=pci";
    struct sockaddr_nl everybody = {.nl_family = AF_NETLINK, .nl_groups = 1};
    AUTO_CLOSE int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
    ssize_t n = fd < 0 ? -1
                       : sendto(fd, text, sizeof text, 0, (const struct sockaddr *)&everybody,
                                sizeof everybody);
    if (n < 0)
        perror("forge");
    return n < 0;
}

static void on_change(void *arg)
{
    (void)arg;
    double up = 0;
    AUTO_FCLOSE FILE *f = fopen("/proc/uptime", "re");
    if (f && fscanf(f, "%lf", &up) == 1) /* NOLINT(cert-err34-c): the kernel wrote it */
        (void)printf("change %.2f\n", up);
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct host host;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 2 && strcmp(argv[1], "--forge") == 0)
        return forge();
    if (argc != 2 || host_open(&host, argv[1], &err) < 0)
        return 2;
    struct loop *loop = loop_new(NULL, NULL);
    struct hotplug *hotplug = hotplug_new(loop, &host, on_change, NULL);
    (void)printf("ready poll %d\n", hotplug_poll_ms(hotplug));
    loop_run(loop); /* until it is killed */
    return 0;
}
