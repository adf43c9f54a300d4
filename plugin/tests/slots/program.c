// A program in CRIU's place: loads the plugin, and calls openat before, in and after a dump.
#define _FILE_OFFSET_BITS 64

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct descriptor {
	const char *name;
	int (*init)(int stage);
	void (*exit)(int stage, int result);
};

// The plugin refuses a program that does not know this request.
#define PAGEMAP_SCAN 0xc0606610ul

static int children(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	fd = openat(AT_FDCWD, path, O_RDONLY);
	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

// The mappings of the program's file, with their rights.
static void say(const char *when)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[4096];

	printf("%s: %d, scan %d", when, children(), ioctl(-1, PAGEMAP_SCAN, NULL));
	while (maps && fgets(line, sizeof(line), maps))
		if (strstr(line, "/program\n"))
			printf(" %.*s", (int)(strchr(line, 'p') - line), strchr(line, ' '));
	printf("\n");
	if (maps)
		fclose(maps);
}

int main(int count, char **words)
{
	void *library = count > 1 ? dlopen(words[1], RTLD_NOW) : NULL;
	struct descriptor *plugin = library ? dlsym(library, "CR_PLUGIN_DESC") : NULL;

	if (!plugin) {
		printf("no plugin: %s\n", dlerror());
		return 1;
	}
	say("before");
	printf("init: %d\n", plugin->init(0));
	say("in");
	plugin->exit(0, 0);
	say("after");
	return 0;
}
