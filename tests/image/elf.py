"""Just enough of ELF-64 to read how a program was linked (System V ABI, chapters 4 and 5)."""
import re
import struct

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_STACK, PT_GNU_RELRO = 1, 2, 3, 0x6474E551, 0x6474E552
PF_X, PF_W = 1, 2
ET_DYN = 3
DT_NEEDED, DT_TEXTREL, DT_RPATH, DT_RUNPATH, DT_FLAGS, DT_FLAGS_1 = 1, 22, 15, 29, 30, 0x6FFFFFFB
DF_TEXTREL, DF_BIND_NOW, DF_1_NOW, DF_1_PIE = 4, 8, 1, 0x08000000

# A load of the stack guard, or the comparison with it: mov or sub with %fs:0x28.
GUARD = re.compile(rb"\x64\x48[\x8b\x2b\x33\x3b].\x25\x28\x00\x00\x00", re.S)


class Elf:
    def __init__(self, data):
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a little-endian ELF-64 file")
        self.data = data
        self.type = struct.unpack_from("<H", data, 16)[0]
        offset, = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        # type, flags, offset, address, physical, bytes in the file, in memory, alignment
        self.segments = [struct.unpack_from("<IIQQQQQQ", data, offset + i * size) for i in range(count)]

    def find(self, kind):
        return [segment for segment in self.segments if segment[0] == kind]

    def dynamic(self):
        """[(tag, value)] of the dynamic section."""
        result = []
        for _, _, offset, _, _, size, _, _ in self.find(PT_DYNAMIC):
            for at in range(offset, offset + size, 16):
                tag, value = struct.unpack_from("<QQ", self.data, at)
                if tag == 0:
                    break
                result.append((tag, value))
        return result

    def flags(self, tag):
        return next((value for found, value in self.dynamic() if found == tag), 0)

    def guards(self):
        """How often the stack guard is read in executable segments."""
        return sum(len(GUARD.findall(self.data, s[2], s[2] + s[5])) for s in self.find(PT_LOAD) if s[1] & PF_X)
