# npumoe: GNU Make 3.81 or later. See CONTRIBUTING.md.
# Provisional: one configuration, library objects only.
CC ?= cc
B := build/release
CFLAGS := -std=c11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
  -Wmissing-prototypes -Wvla -Wundef -fvisibility=hidden -pthread -Iinclude -Isrc -MMD -MP
SRC := $(shell find src -name '*.c' ! -path 'src/cli/*')
OBJ := $(SRC:%.c=$(B)/%.o)
all: $(B)/libnpumoe.a
$(B)/libnpumoe.a: $(OBJ)
	$(AR) rcs $@ $^
$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -c -o $@ $<
-include $(OBJ:.o=.d)
